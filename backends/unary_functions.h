#pragma once

#include <cstdint>
#include <type_traits>

/// @file
/// The functions of UnaryFn: one struct each, with the value and the gradient side by side. `gradient(dy, s, k)` is
/// dy f'(x), given s = x or s = f(x) as saved_by() of core/ops/elementwise.h says. Where f' is 0 by definition the
/// gradient is 0 whatever dy is, infinite or not. `kCost` counts in units of one cheap element of the CPU.
///
/// M is the device's mathematics: a struct of static functions exp, log, tanh, ... for float and double, with divide()
/// where a quotient may be as inexact as they are. All is constexpr, which lets the CUDA compiler use it on the card
/// too.

namespace trinix::fn {

/// The scalars of a call.
template <class C>
struct Constants {
  C a;
  C b;
};

/// Integers wrap on overflow, which is defined in unsigned arithmetic.
template <class C>
using Wrapping = typename std::conditional_t<std::is_integral_v<C>, std::make_unsigned<C>, std::type_identity<C>>::type;

template <class C>
constexpr C wrap_mul(C x, C y) {
  // 32-bit unsigned at least: unsigned char would be promoted to int, whose overflow is undefined.
  if constexpr (std::is_integral_v<C>) {
    return static_cast<C>(static_cast<std::uint64_t>(x) * static_cast<std::uint64_t>(y));
  } else {
    return x * y;
  }
}

struct AddScalar {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C> k) {
    return C(Wrapping<C>(x) + Wrapping<C>(k.a));
  }
  template <class C>
  static constexpr C gradient(C dy, C, Constants<C>) {
    return dy;
  }
};

struct MulScalar {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C> k) {
    return wrap_mul(x, k.a);
  }
  template <class C>
  static constexpr C gradient(C dy, C, Constants<C> k) {
    return dy * k.a;
  }
};

struct RsubScalar {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C> k) {
    return C(Wrapping<C>(k.a) - Wrapping<C>(x));
  }
  template <class C>
  static constexpr C gradient(C dy, C, Constants<C>) {
    return -dy;
  }
};

struct Clamp {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C> k) {
    x = x < k.a ? k.a : x;  // NaN fails both comparisons and stays
    return x > k.b ? k.b : x;
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C> k) {
    return ((x < k.a) | (x > k.b)) ? C(0) : dy;
  }
};

struct Neg {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    if constexpr (std::is_integral_v<C>) return C(Wrapping<C>(0) - Wrapping<C>(x));
    return -x;
  }
  template <class C>
  static constexpr C gradient(C dy, C, Constants<C>) {
    return -dy;
  }
};

template <class M>
struct Abs {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C> k) {
    if constexpr (std::is_floating_point_v<C>) {
      return M::fabs(x);
    } else if constexpr (std::is_signed_v<C>) {
      return x < C(0) ? Neg::value(x, k) : x;
    } else {
      return x;
    }
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return x == 0 ? C(0) : (x < 0 ? -dy : dy);
  }
};

struct Sign {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    if constexpr (std::is_unsigned_v<C>) {
      return C(x > 0);
    } else {
      const C s = x > C(0) ? C(1) : (x < C(0) ? C(-1) : C(0));
      return x == x ? s : x;
    }
  }
  template <class C>
  static constexpr C gradient(C, C, Constants<C>) {
    return 0;
  }
};

struct Square {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return wrap_mul(x, x);
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy * (x + x);
  }
};

struct DivScalar {
  static constexpr int kCost = 2;
  template <class C>
  static constexpr C value(C x, Constants<C> k) {
    return x / k.a;
  }
  template <class C>
  static constexpr C gradient(C dy, C, Constants<C> k) {
    return dy / k.a;
  }
};

struct RdivScalar {
  static constexpr int kCost = 2;
  template <class C>
  static constexpr C value(C x, Constants<C> k) {
    return k.a / x;
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C> k) {
    return -dy * (k.a / x / x);
  }
};

template <class M>
struct PowScalar {
  static constexpr int kCost = 30;
  template <class C>
  static constexpr C value(C x, Constants<C> k) {
    return M::pow(x, k.a);
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C> k) {
    return k.a == 0 ? C(0) : dy * (k.a * M::pow(x, k.a - 1));
  }
};

template <class M>
struct Exp {
  static constexpr int kCost = 4;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::exp(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C y, Constants<C>) {
    return dy * y;
  }
};

template <class M>
struct Expm1 {
  static constexpr int kCost = 4;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::expm1(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy * M::exp(x);
  }
};

template <class M>
struct Log {
  static constexpr int kCost = 4;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::log(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy / x;
  }
};

template <class M>
struct Log1p {
  static constexpr int kCost = 5;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::log1p(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy / (x + 1);
  }
};

template <class M>
struct Log2 {
  static constexpr int kCost = 4;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::log2(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy / (x * C(0.693147180559945309417));
  }
};

template <class M>
struct Sqrt {
  static constexpr int kCost = 3;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::sqrt(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C y, Constants<C>) {
    return dy * C(0.5) / y;
  }
};

template <class M>
struct Rsqrt {
  static constexpr int kCost = 4;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return 1 / M::sqrt(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C y, Constants<C>) {
    return dy * (C(-0.5) * y * y * y);
  }
};

struct Reciprocal {
  static constexpr int kCost = 2;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return 1 / x;
  }
  template <class C>
  static constexpr C gradient(C dy, C y, Constants<C>) {
    return -dy * (y * y);
  }
};

template <class M>
struct Sin {
  static constexpr int kCost = 5;
  static constexpr bool kOfAngle = true;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::sin(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy * M::cos(x);
  }
};

template <class M>
struct Cos {
  static constexpr int kCost = 5;
  static constexpr bool kOfAngle = true;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::cos(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return -dy * M::sin(x);
  }
};

template <class M>
struct Tan {
  static constexpr int kCost = 30;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::tan(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C y, Constants<C>) {
    return dy * (1 + y * y);
  }
};

template <class M>
struct Tanh {
  static constexpr int kCost = 5;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::tanh(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C y, Constants<C>) {
    return dy * (1 - y * y);
  }
};

template <class M>
struct Sigmoid {
  static constexpr int kCost = 5;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::sigmoid(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C y, Constants<C>) {
    return dy * (y * (1 - y));
  }
};

template <class M>
struct Erf {
  static constexpr int kCost = 8;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::erf(x);
  }
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    return dy * (C(1.12837916709551257390) * M::exp(-x * x));  // 2 / sqrt(pi)
  }
};

/// Functions that are flat between their steps.
struct Flat {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C gradient(C, C, Constants<C>) {
    return 0;
  }
};

template <class M>
struct Floor : Flat {
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::floor(x);
  }
};
template <class M>
struct Ceil : Flat {
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::ceil(x);
  }
};
template <class M>
struct Round : Flat {
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::nearbyint(x);
  }
};
template <class M>
struct Trunc : Flat {
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::trunc(x);
  }
};

/// f(x) and f'(x), for kernels that need both.
template <class C>
struct ValueAndSlope {
  C value;
  C slope;
};

struct Relu {
  static constexpr int kCost = 1;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return x < 0 ? C(0) : x;
  }
  template <class C>
  static constexpr ValueAndSlope<C> both(C x) {
    return {x < 0 ? C(0) : x, x <= 0 ? C(0) : C(1)};
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
