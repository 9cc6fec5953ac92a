#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <trinix/backends/cpu/vector_math.h>

/// @file
/// The functions of UnaryFn: one struct each, with the value and the gradient side by side. `gradient(dy, s, k)` is
/// dy f'(x), given s = x or s = f(x) as saved_by() of core/ops/elementwise.h says. Where f' is 0 by definition the
/// gradient is 0 whatever dy is, infinite or not. `kCost` counts in units of one cheap element.

namespace trinix::cpu::fn {

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
  static C value(C x, Constants<C> k) {
    return C(Wrapping<C>(x) + Wrapping<C>(k.a));
  }
  template <class C>
  static C gradient(C dy, C, Constants<C>) {
    return dy;
  }
};

struct MulScalar {
  static constexpr int kCost = 1;
  template <class C>
  static C value(C x, Constants<C> k) {
    return wrap_mul(x, k.a);
  }
  template <class C>
  static C gradient(C dy, C, Constants<C> k) {
    return dy * k.a;
  }
};

struct RsubScalar {
  static constexpr int kCost = 1;
  template <class C>
  static C value(C x, Constants<C> k) {
    return C(Wrapping<C>(k.a) - Wrapping<C>(x));
  }
  template <class C>
  static C gradient(C dy, C, Constants<C>) {
    return -dy;
  }
};

struct Clamp {
  static constexpr int kCost = 1;
  template <class C>
  static C value(C x, Constants<C> k) {
    x = x < k.a ? k.a : x;  // NaN fails both comparisons and stays
    return x > k.b ? k.b : x;
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C> k) {
    return ((x < k.a) | (x > k.b)) ? C(0) : dy;
  }
};

struct Neg {
  static constexpr int kCost = 1;
  template <class C>
  static C value(C x, Constants<C>) {
    if constexpr (std::is_integral_v<C>) return C(Wrapping<C>(0) - Wrapping<C>(x));
    return -x;
  }
  template <class C>
  static C gradient(C dy, C, Constants<C>) {
    return -dy;
  }
};

struct Abs {
  static constexpr int kCost = 1;
  template <class C>
  static C value(C x, Constants<C> k) {
    if constexpr (std::is_floating_point_v<C>) return std::fabs(x);
    return x < C(0) ? Neg::value(x, k) : x;
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return x == 0 ? C(0) : (x < 0 ? -dy : dy);
  }
};

struct Sign {
  static constexpr int kCost = 1;
  template <class C>
  static C value(C x, Constants<C>) {
    const C s = x > C(0) ? C(1) : (x < C(0) ? C(-1) : C(0));
    return x == x ? s : x;
  }
  template <class C>
  static C gradient(C, C, Constants<C>) {
    return 0;
  }
};

struct Square {
  static constexpr int kCost = 1;
  template <class C>
  static C value(C x, Constants<C>) {
    return wrap_mul(x, x);
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return dy * (x + x);
  }
};

struct DivScalar {
  static constexpr int kCost = 2;
  template <class C>
  static C value(C x, Constants<C> k) {
    return x / k.a;
  }
  template <class C>
  static C gradient(C dy, C, Constants<C> k) {
    return dy / k.a;
  }
};

struct RdivScalar {
  static constexpr int kCost = 2;
  template <class C>
  static C value(C x, Constants<C> k) {
    return k.a / x;
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C> k) {
    return -dy * (k.a / x / x);
  }
};

struct PowScalar {
  static constexpr int kCost = 30;
  template <class C>
  static C value(C x, Constants<C> k) {
    return std::pow(x, k.a);
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C> k) {
    return k.a == 0 ? C(0) : dy * (k.a * std::pow(x, k.a - 1));
  }
};

struct Exp {
  static constexpr int kCost = 4;
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::exp(x);
  }
  template <class C>
  static C gradient(C dy, C y, Constants<C>) {
    return dy * y;
  }
};

struct Expm1 {
  static constexpr int kCost = 4;
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::expm1(x);
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return dy * vm::exp(x);
  }
};

struct Log {
  static constexpr int kCost = 4;
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::log(x);
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return dy / x;
  }
};

struct Log1p {
  static constexpr int kCost = 5;
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::log1p(x);
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return dy / (x + 1);
  }
};

struct Log2 {
  static constexpr int kCost = 4;
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::log2(x);
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return dy / (x * C(0.693147180559945309417));
  }
};

struct Sqrt {
  static constexpr int kCost = 3;
  template <class C>
  static C value(C x, Constants<C>) {
    return std::sqrt(x);
  }
  template <class C>
  static C gradient(C dy, C y, Constants<C>) {
    return dy * C(0.5) / y;
  }
};

struct Rsqrt {
  static constexpr int kCost = 4;
  template <class C>
  static C value(C x, Constants<C>) {
    return 1 / std::sqrt(x);
  }
  template <class C>
  static C gradient(C dy, C y, Constants<C>) {
    return dy * (C(-0.5) * y * y * y);
  }
};

struct Reciprocal {
  static constexpr int kCost = 2;
  template <class C>
  static C value(C x, Constants<C>) {
    return 1 / x;
  }
  template <class C>
  static C gradient(C dy, C y, Constants<C>) {
    return -dy * (y * y);
  }
};

/// Arguments that the vectorised sine and cosine reduce correctly.
inline bool in_trigonometric_range(float x) { return !(std::fabs(x) > vm::kTrigonometricRange); }

struct Sin {
  static constexpr int kCost = 5;
  static bool covers(float x) { return in_trigonometric_range(x); }
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::sin(x);
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return dy * vm::cos(x);
  }
};

struct Cos {
  static constexpr int kCost = 5;
  static bool covers(float x) { return in_trigonometric_range(x); }
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::cos(x);
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return -dy * vm::sin(x);
  }
};

struct Tan {
  static constexpr int kCost = 30;
  template <class C>
  static C value(C x, Constants<C>) {
    return std::tan(x);
  }
  template <class C>
  static C gradient(C dy, C y, Constants<C>) {
    return dy * (1 + y * y);
  }
};

struct Tanh {
  static constexpr int kCost = 5;
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::tanh(x);
  }
  template <class C>
  static C gradient(C dy, C y, Constants<C>) {
    return dy * (1 - y * y);
  }
};

struct Sigmoid {
  static constexpr int kCost = 5;
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::sigmoid(x);
  }
  template <class C>
  static C gradient(C dy, C y, Constants<C>) {
    return dy * (y * (1 - y));
  }
};

struct Erf {
  static constexpr int kCost = 8;
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::erf(x);
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return dy * (C(1.12837916709551257390) * vm::exp(-x * x));  // 2 / sqrt(pi)
  }
};

/// Functions that are flat between their steps.
struct Flat {
  static constexpr int kCost = 1;
  template <class C>
  static C gradient(C, C, Constants<C>) {
    return 0;
  }
};

struct Floor : Flat {
  template <class C>
  static C value(C x, Constants<C>) {
    return std::floor(x);
  }
};
struct Ceil : Flat {
  template <class C>
  static C value(C x, Constants<C>) {
    return std::ceil(x);
  }
};
struct Round : Flat {
  template <class C>
  static C value(C x, Constants<C>) {
    return std::nearbyint(x);
  }
};
struct Trunc : Flat {
  template <class C>
  static C value(C x, Constants<C>) {
    return std::trunc(x);
  }
};

struct Relu {
  static constexpr int kCost = 1;
  template <class C>
  static C value(C x, Constants<C>) {
    return x < 0 ? C(0) : x;
  }
  template <class C>
  static C gradient(C dy, C y, Constants<C>) {
    return y <= 0 ? C(0) : dy;
  }
};

struct LeakyRelu {
  static constexpr int kCost = 1;
  template <class C>
  static C value(C x, Constants<C> k) {
    return x < 0 ? k.a * x : x;
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C> k) {
    return x <= 0 ? k.a * dy : dy;
  }
};

struct Elu {
  static constexpr int kCost = 5;
  template <class C>
  static C value(C x, Constants<C> k) {
    const C below = k.a * vm::expm1(x);
    return x < 0 ? below : x;
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C> k) {
    const C below = dy * (k.a * vm::exp(x));
    return x < 0 ? below : dy;
  }
};

/// x sigmoid(c x) and its gradient; many gates are of this form.
template <class C>
C gate(C x, C c) {
  return x / (1 + vm::exp(-c * x));
}
template <class C>
C gate_gradient(C dy, C x, C c) {
  const C s = vm::sigmoid(c * x);
  return dy * (s * (1 + c * x * (1 - s)));
}

struct Silu {
  static constexpr int kCost = 5;
  template <class C>
  static C value(C x, Constants<C>) {
    return gate(x, C(1));
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return gate_gradient(dy, x, C(1));
  }
};

struct QuickGelu {
  static constexpr int kCost = 5;
  template <class C>
  static C value(C x, Constants<C>) {
    return gate(x, C(1.702));
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return gate_gradient(dy, x, C(1.702));
  }
};

struct Softplus {
  static constexpr int kCost = 9;
  template <class C>
  static C value(C x, Constants<C>) {
    return vm::log1p(vm::exp(-std::fabs(x))) + (x > 0 ? x : C(0));
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return dy * vm::sigmoid(x);
  }
};

/// (1 + tanh u) / 2 is sigmoid(2u), which takes one exponential and one division.
struct GeluTanh {
  static constexpr int kCost = 6;
  static constexpr double kTwoRootTwoOverPi = 1.59576912160573071176;
  static constexpr double kCubic = 0.044715;
  template <class C>
  static C value(C x, Constants<C>) {
    return x / (1 + vm::exp(C(-kTwoRootTwoOverPi) * (x + C(kCubic) * x * x * x)));
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    // Beyond 20 the slope is 0 or 1 to the last bit, and x^3 could overflow.
    x = x > 20 ? C(20) : x;
    x = x < -20 ? C(-20) : x;
    const C s = 1 / (1 + vm::exp(C(-kTwoRootTwoOverPi) * (x + C(kCubic) * x * x * x)));
    const C inner = C(kTwoRootTwoOverPi) * (1 + C(3 * kCubic) * x * x);
    return dy * (s * (1 + x * inner * (1 - s)));
  }
};

struct GeluErf {
  static constexpr int kCost = 9;
  template <class C>
  static C cdf(C x) {
    return C(0.5) * (1 + vm::erf(x * C(0.70710678118654752440)));
  }
  template <class C>
  static C value(C x, Constants<C>) {
    return x * cdf(x);
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    const C density = C(0.39894228040143267794) * vm::exp(C(-0.5) * x * x);  // 1 / sqrt(2 pi)
    return dy * (cdf(x) + x * density);
  }
};

struct SquaredRelu {
  static constexpr int kCost = 1;
  template <class C>
  static C value(C x, Constants<C>) {
    const C r = x < 0 ? C(0) : x;
    return r * r;
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    return x <= 0 ? C(0) : dy * (x + x);
  }
};

/// tanh(softplus(x)) = w / (w + 2) with w = e^x (e^x + 2).
struct Mish {
  static constexpr int kCost = 6;
  template <class C>
  static C weight(C x) {
    const C e = vm::exp(x > 40 ? C(40) : x);  // the quotient is 1 long before w overflows
    return e * (e + 2);
  }
  template <class C>
  static C value(C x, Constants<C>) {
    const C w = weight(x);
    return x * (w / (w + 2));
  }
  template <class C>
  static C gradient(C dy, C x, Constants<C>) {
    const C w = weight(x);
    const C rest = 2 / (w + 2);  // 1 - tanh
    return dy * ((1 - rest) + x * (rest * (2 - rest)) * vm::sigmoid(x));
  }
};

}  // namespace trinix::cpu::fn
