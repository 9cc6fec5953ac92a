#pragma once

#include <trinix/backends/activation_functions.h>
#include <trinix/core/ops/activation.h>

/// @file
/// From an Activation at run time to its struct in activation_functions.h and unary_functions.h.

namespace trinix::fn {

template <class M, class F>
constexpr void visit_activation(Activation a, F&& f) {
  switch (a) {
    case Activation::relu:
      return f.template operator()<Relu>();
    case Activation::gelu_erf:
      return f.template operator()<GeluErf<M>>();
    case Activation::gelu_tanh:
      return f.template operator()<GeluTanh<M>>();
    case Activation::silu:
      return f.template operator()<Silu<M>>();
    case Activation::sigmoid:
      return f.template operator()<Sigmoid<M>>();
    case Activation::tanh:
      return f.template operator()<Tanh<M>>();
    case Activation::softplus:
      return f.template operator()<Softplus<M>>();
    case Activation::quick_gelu:
      return f.template operator()<QuickGelu<M>>();
    case Activation::squared_relu:
      return f.template operator()<SquaredRelu>();
    case Activation::mish:
      return f.template operator()<Mish<M>>();
  }
}

}  // namespace trinix::fn
