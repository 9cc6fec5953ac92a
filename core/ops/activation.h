#pragma once

#include <cstdint>

#include <trinix/core/ops/elementwise.h>

/// @file
/// The elementwise functions that layers choose among by name.

namespace trinix {

/// Formulas and papers stand beside UnaryFn's values of the same names.
enum class Activation : std::uint8_t {
  relu,
  gelu_erf,
  gelu_tanh,
  silu,
  sigmoid,
  tanh,
  softplus,
  quick_gelu,
  squared_relu,
  mish,
};

[[nodiscard]] constexpr UnaryFn unary_of(Activation a) {
  switch (a) {
    case Activation::relu:
      return UnaryFn::relu;
    case Activation::gelu_erf:
      return UnaryFn::gelu_erf;
    case Activation::gelu_tanh:
      return UnaryFn::gelu_tanh;
    case Activation::silu:
      return UnaryFn::silu;
    case Activation::sigmoid:
      return UnaryFn::sigmoid;
    case Activation::tanh:
      return UnaryFn::tanh;
    case Activation::softplus:
      return UnaryFn::softplus;
    case Activation::quick_gelu:
      return UnaryFn::quick_gelu;
    case Activation::squared_relu:
      return UnaryFn::squared_relu;
    case Activation::mish:
      break;
  }
  return UnaryFn::mish;
}

}  // namespace trinix
