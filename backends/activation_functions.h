#pragma once

#include <trinix/backends/unary_functions.h>

/// @file
/// The activations of UnaryFn, by the rules of unary_functions.h. Those that gated units use give value and slope at
/// once.

namespace trinix::fn {

/// f(x) and f'(x), for kernels that need both.
template <class C>
struct ValueAndSlope {
  C value;
  C slope;
};

/// g * slope for such a kernel; a slope of 0 makes 0 of anything, as in the gradients of unary_functions.h.
template <class C>
constexpr C times_slope(C g, C slope) {
  return slope == 0 ? C(0) : g * slope;
}

struct Relu {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return x < 0 ? C(0) : x;
  }
  template <class C>
  static constexpr ValueAndSlope<C> both(C x) {
    return {x < 0 ? C(0) : x, x <= 0 ? C(0) : x > 0 ? C(1) : x};  // NaN reaches both
  }
  template <class C>
  static constexpr C gradient(C dy, C y, Constants<C>) {
    return y <= 0 ? C(0) : dy;
  }
};

struct LeakyRelu {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C> k) {
    return x < 0 ? k.a * x : x;
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C> k) {
    return x <= 0 ? k.a * dy : dy;
  }
};

template <class M>
struct Elu {
  static constexpr int kCost = 5;
  template <class C>
  static constexpr C value(C x, Constants<C> k) {
    const C below = k.a * M::expm1(x);
    return x < 0 ? below : x;
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C> k) {
    const C below = dy * (k.a * M::exp(x));
    return x < 0 ? below : dy;
  }
};

/// Bounds that let NaN pass. Far to the left a gate is 0 to the last bit, and stays so at -infinity, where a product of
/// x and its weight would be NaN.
template <class C>
constexpr C at_least(C x, C low) {
  return x < low ? low : x;
}
template <class C>
constexpr C within(C x, C bound) {
  x = x < -bound ? -bound : x;
  return x > bound ? bound : x;
}

/// x sigmoid(c x); many gates are of this form.
template <class C>
inline constexpr C kGateBound = 800;
template <class M, class C>
constexpr C gate(C x, C c) {
  x = at_least(x, -kGateBound<C>);
  return M::divide(x, 1 + M::exp(-c * x));
}
template <class M, class C>
constexpr ValueAndSlope<C> gate_both(C x, C c) {
  const C near = within(x, kGateBound<C>);
  const C s = M::sigmoid(c * near);
  return {at_least(x, -kGateBound<C>) * s, s * (1 + c * near * (1 - s))};
}

template <class M>
struct Silu {
  static constexpr int kCost = 5;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return gate<M>(x, C(1));
  }
  template <class C>
  static constexpr ValueAndSlope<C> both(C x) {
    return gate_both<M>(x, C(1));
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy * both(x).slope;
  }
};

template <class M>
struct QuickGelu {
  static constexpr int kCost = 5;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return gate<M>(x, C(1.702));
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy * gate_both<M>(x, C(1.702)).slope;
  }
};

template <class M>
struct Softplus {
  static constexpr int kCost = 9;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::log1p(M::exp(-M::fabs(x))) + (x > 0 ? x : C(0));
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy * M::sigmoid(x);
  }
};

/// (1 + tanh u) / 2 is sigmoid(2u), which takes one exponential and one division.
template <class M>
struct GeluTanh {
  static constexpr int kCost = 6;
  static constexpr double kTwoRootTwoOverPi = 1.59576912160573071176;
  static constexpr double kCubic = 0.044715;
  static constexpr double kBound = 40;  // the weight is 0 or 1 there, and x^3 far from overflow
  template <class C>
  static constexpr C exp_of_minus_2u(C x) {
    return M::exp(C(-kTwoRootTwoOverPi) * (x + C(kCubic) * x * x * x));
  }
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    x = at_least(x, C(-kBound));
    return M::divide(x, 1 + exp_of_minus_2u(x));
  }
  template <class C>
  static constexpr ValueAndSlope<C> both(C x) {
    const C near = within(x, C(kBound));
    const C s = M::divide(C(1), 1 + exp_of_minus_2u(near));
    const C inner = C(kTwoRootTwoOverPi) * (1 + C(3 * kCubic) * near * near);
    return {at_least(x, C(-kBound)) * s, s * (1 + near * inner * (1 - s))};
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy * both(x).slope;
  }
};

/// x times the normal distribution's cumulative function.
template <class M>
struct GeluErf {
  static constexpr int kCost = 6;
  static constexpr double kBound = 40;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    x = at_least(x, C(-kBound));
    return x * M::normal_cdf(x);
  }
  template <class C>
  static constexpr ValueAndSlope<C> both(C x) {
    const C near = within(x, C(kBound));
    const C weight = M::normal_cdf(near);
    const C density = C(0.39894228040143267794) * M::exp(C(-0.5) * near * near);  // 1 / sqrt(2 pi)
    return {at_least(x, C(-kBound)) * weight, weight + near * density};
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy * both(x).slope;
  }
};

struct SquaredRelu {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    const C r = x < 0 ? C(0) : x;
    return r * r;
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return x <= 0 ? C(0) : dy * (x + x);
  }
};

/// With e = exp(x) and w = e (e + 2): tanh(softplus(x)) = w / (w + 2), and its derivative 4 e (1 + e) / (w + 2)^2.
template <class M>
struct Mish {
  static constexpr int kCost = 6;
  /// The quotient is 1 long before w overflows.
  template <class C>
  static constexpr C exp_of(C x) {
    return M::exp(x > 40 ? C(40) : x);
  }
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    x = at_least(x, -kGateBound<C>);
    const C e = exp_of(x);
    const C w = e * (e + 2);
    return x * M::divide(w, w + 2);
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    x = at_least(x, -kGateBound<C>);
    x = x > 40 ? C(40) : x;
    const C e = exp_of(x);
    const C w = e * (e + 2);
    const C r = M::divide(C(1), w + 2);
    // In this order no factor leaves the range of a float.
    return dy * (w * r + x * (4 * (e * r) * ((1 + e) * r)));
  }
};

}  // namespace trinix::fn
