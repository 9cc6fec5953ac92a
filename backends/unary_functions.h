#pragma once

#include <cstdint>
#include <type_traits>

/// @file
/// The functions of UnaryFn, but for the activations (activation_functions.h): one struct each, with the value and the
/// gradient side by side. `gradient(dy, s, k)` is dy f'(x), given s = x or s = f(x) as saved_by() of
/// core/ops/elementwise.h says. Where f' is 0 by definition the gradient is 0 whatever dy is, infinite or not. `kCost`
/// counts in units of one cheap element of the CPU.
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
  /// From x: where tanh is 1 to the last bit of its type, 1 - y^2 is 0 and the slope is not.
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    const C e = M::exp(-2 * M::fabs(x));
    const C r = M::divide(C(1), 1 + e);
    return dy * (4 * e * (r * r));
  }
};

template <class M>
struct Sigmoid {
  static constexpr int kCost = 5;
  template <class C>
  static constexpr C value(C x, Constants<C>) {
    return M::sigmoid(x);
  }
  /// From x, for tanh's reason.
  template <class C>
  static constexpr C gradient(C dy, C x, Constants<C>) {
    const C e = M::exp(-M::fabs(x));
    const C r = M::divide(C(1), 1 + e);
    return dy * (e * (r * r));
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

}  // namespace trinix::fn
