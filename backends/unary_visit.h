#pragma once

#include <trinix/backends/activation_functions.h>
#include <trinix/core/ops/elementwise.h>

/// @file
/// From a UnaryFn at run time to its struct in unary_functions.h and activation_functions.h.

namespace trinix::fn {

/// Calls f.template operator()<Function>() with the struct of `fn`. Returns false when there is none for the compute
/// type C: most functions are for floating point only, and logical_not is none of these.
template <class M, class C, class F>
constexpr bool visit(UnaryFn fn, F&& f) {
  switch (fn) {
    case UnaryFn::add_scalar:
      return f.template operator()<AddScalar>(), true;
    case UnaryFn::mul_scalar:
      return f.template operator()<MulScalar>(), true;
    case UnaryFn::rsub_scalar:
      return f.template operator()<RsubScalar>(), true;
    case UnaryFn::clamp:
      return f.template operator()<Clamp>(), true;
    case UnaryFn::neg:
      return f.template operator()<Neg>(), true;
    case UnaryFn::abs:
      return f.template operator()<Abs<M>>(), true;
    case UnaryFn::sign:
      return f.template operator()<Sign>(), true;
    case UnaryFn::square:
      return f.template operator()<Square>(), true;
    default:
      break;
  }
  if constexpr (std::is_floating_point_v<C>) {
    switch (fn) {
      case UnaryFn::div_scalar:
        return f.template operator()<DivScalar>(), true;
      case UnaryFn::rdiv_scalar:
        return f.template operator()<RdivScalar>(), true;
      case UnaryFn::pow_scalar:
        return f.template operator()<PowScalar<M>>(), true;
      case UnaryFn::exp:
        return f.template operator()<Exp<M>>(), true;
      case UnaryFn::expm1:
        return f.template operator()<Expm1<M>>(), true;
      case UnaryFn::log:
        return f.template operator()<Log<M>>(), true;
      case UnaryFn::log1p:
        return f.template operator()<Log1p<M>>(), true;
      case UnaryFn::log2:
        return f.template operator()<Log2<M>>(), true;
      case UnaryFn::sqrt:
        return f.template operator()<Sqrt<M>>(), true;
      case UnaryFn::rsqrt:
        return f.template operator()<Rsqrt<M>>(), true;
      case UnaryFn::reciprocal:
        return f.template operator()<Reciprocal>(), true;
      case UnaryFn::sin:
        return f.template operator()<Sin<M>>(), true;
      case UnaryFn::cos:
        return f.template operator()<Cos<M>>(), true;
      case UnaryFn::tan:
        return f.template operator()<Tan<M>>(), true;
      case UnaryFn::tanh:
        return f.template operator()<Tanh<M>>(), true;
      case UnaryFn::sigmoid:
        return f.template operator()<Sigmoid<M>>(), true;
      case UnaryFn::erf:
        return f.template operator()<Erf<M>>(), true;
      case UnaryFn::floor:
        return f.template operator()<Floor<M>>(), true;
      case UnaryFn::ceil:
        return f.template operator()<Ceil<M>>(), true;
      case UnaryFn::round:
        return f.template operator()<Round<M>>(), true;
      case UnaryFn::trunc:
        return f.template operator()<Trunc<M>>(), true;
      case UnaryFn::relu:
        return f.template operator()<Relu>(), true;
      case UnaryFn::leaky_relu:
        return f.template operator()<LeakyRelu>(), true;
      case UnaryFn::elu:
        return f.template operator()<Elu<M>>(), true;
      case UnaryFn::silu:
        return f.template operator()<Silu<M>>(), true;
      case UnaryFn::softplus:
        return f.template operator()<Softplus<M>>(), true;
      case UnaryFn::gelu_tanh:
        return f.template operator()<GeluTanh<M>>(), true;
      case UnaryFn::gelu_erf:
        return f.template operator()<GeluErf<M>>(), true;
      case UnaryFn::quick_gelu:
        return f.template operator()<QuickGelu<M>>(), true;
      case UnaryFn::squared_relu:
        return f.template operator()<SquaredRelu>(), true;
      case UnaryFn::mish:
        return f.template operator()<Mish<M>>(), true;
      default:
        break;
    }
  }
  return false;
}

}  // namespace trinix::fn
