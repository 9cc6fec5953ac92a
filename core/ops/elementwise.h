#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/scalar.h>
#include <trinix/core/view.h>

/// @file
/// Contracts of the elementwise ops: Unary, Binary, Compare, Where. All views of one call have one shape (broadcast
/// dims carry stride 0); outputs never overlap inputs partially (in place means the very same view).

namespace trinix {

/// y = f(x; a, b). The formulas stand beside the names; a and b are the scalars of the call.
enum class UnaryFn : std::uint8_t {
  // any arithmetic dtype
  add_scalar,   ///< x + a
  mul_scalar,   ///< x * a
  rsub_scalar,  ///< a - x
  clamp,        ///< min(max(x, a), b); NaN stays NaN
  neg,
  abs,
  sign,
  square,
  logical_not,  ///< boolean only
  // floating point only
  div_scalar,   ///< x / a
  rdiv_scalar,  ///< a / x
  pow_scalar,   ///< x ^ a
  exp,
  expm1,
  log,
  log1p,
  log2,
  sqrt,
  rsqrt,
  reciprocal,
  sin,
  cos,
  tan,
  tanh,
  sigmoid,
  erf,
  floor,
  ceil,
  round,  ///< halves to even
  trunc,
  relu,
  leaky_relu,    ///< a is the slope below zero
  elu,           ///< a * (exp(x) - 1) below zero
  silu,          ///< x * sigmoid(x)
  softplus,      ///< log(1 + exp(x)), stable
  gelu_tanh,     ///< 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); Hendrycks and Gimpel, arXiv 1606.08415
  gelu_erf,      ///< 0.5 x (1 + erf(x / sqrt 2)); the same paper
  quick_gelu,    ///< x * sigmoid(1.702 x)
  squared_relu,  ///< max(x, 0)^2; So et al., arXiv 2109.08668
  mish,          ///< x * tanh(softplus(x)); Misra, arXiv 1908.08681
};

/// Which tensor of the forward the backward reads, so that the other need not be kept.
enum class UnarySaved : std::uint8_t { nothing, x, y };

[[nodiscard]] constexpr UnarySaved saved_by(UnaryFn fn) {
  switch (fn) {
    case UnaryFn::add_scalar:
    case UnaryFn::mul_scalar:
    case UnaryFn::rsub_scalar:
    case UnaryFn::neg:
    case UnaryFn::sign:
    case UnaryFn::logical_not:
    case UnaryFn::div_scalar:
    case UnaryFn::floor:
    case UnaryFn::ceil:
    case UnaryFn::round:
    case UnaryFn::trunc:
      return UnarySaved::nothing;
    case UnaryFn::exp:
    case UnaryFn::sqrt:
    case UnaryFn::rsqrt:
    case UnaryFn::reciprocal:
    case UnaryFn::tan:
    case UnaryFn::relu:
      return UnarySaved::y;
    default:
      return UnarySaved::x;
  }
}

struct Unary {
  static constexpr const char* kName = "unary";
  static constexpr bool kHasReference = false;
  struct Forward {
    UnaryFn fn;
    View x;
    View y;  ///< same dtype as x
    Scalar a = 0;
    Scalar b = 0;
  };
  /// dx = f'(x) * dy in one pass. Floating point.
  struct Backward {
    UnaryFn fn;
    View saved;  ///< the tensor that saved_by(fn) names; undefined when it names none
    View dy;
    View dx;
    Scalar a = 0;
    Scalar b = 0;
  };
};

/// z = f(x, y), all of one dtype.
enum class BinaryFn : std::uint8_t {
  add,
  sub,
  mul,
  div,          ///< floating point only
  pow,          ///< floating point only
  maximum,      ///< NaN if either is NaN
  minimum,      ///< NaN if either is NaN
  logical_and,  ///< boolean only, as the next two
  logical_or,
  logical_xor,
};

struct Binary {
  static constexpr const char* kName = "binary";
  static constexpr bool kHasReference = false;
  struct Forward {
    BinaryFn fn;
    View x;
    View y;
    View z;
  };
  using Backward = NoBackward;  // the gradients are elementwise ops themselves
};

/// z = x (relation) y as a boolean; x and y of one dtype. Anything compared with NaN is false, except not_equal.
enum class Relation : std::uint8_t { equal, not_equal, less, less_equal, greater, greater_equal };

struct Compare {
  static constexpr const char* kName = "compare";
  static constexpr bool kHasReference = false;
  struct Forward {
    Relation relation;
    View x;
    View y;
    View z;
  };
  using Backward = NoBackward;
};

/// z = condition ? x : y; condition is boolean, the others share one dtype.
struct Where {
  static constexpr const char* kName = "where";
  static constexpr bool kHasReference = false;
  struct Forward {
    View condition;
    View x;
    View y;
    View z;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
