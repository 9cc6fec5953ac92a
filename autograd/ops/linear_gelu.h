#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/tensor.h>

/// @file
/// The two linear layers of a transformer's MLP with the GELU between them.

namespace trinix {

/// linear(gelu(linear(x, weight, bias), Gelu::tanh), next_weight, next_bias): x (..., in), weight (hidden, in), bias
/// (hidden) or undefined, next_weight (out, hidden), next_bias (out) or undefined -> (..., out). All of one
/// floating-point dtype. As one function the GELU, its gradient and the gradient of `bias` can be made in the passes
/// of the products (core/ops/linear_gelu.h). @throws ShapeError, DtypeError, DeviceError.
[[nodiscard]] Tensor gelu_mlp(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& next_weight,
                              const Tensor& next_bias, KernelChoice kernel = {});

}  // namespace trinix
