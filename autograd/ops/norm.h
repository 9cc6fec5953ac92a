#pragma once

#include <utility>

#include <trinix/core/kernel.h>
#include <trinix/core/tensor.h>

/// @file
/// Normalisation over the last dim.

namespace trinix {

/// (x - mean) / sqrt(var + eps) * weight + bias over the last dim of x (..., C); weight and bias (C) or undefined, of
/// x's dtype. Statistics in f32 or wider. Ba et al., arXiv 1607.06450.
/// @throws ShapeError, DtypeError, DeviceError, KernelUnavailable.
[[nodiscard]] Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5,
                                KernelChoice kernel = {});

/// The sum x + branch of a residual connection, and layer_norm(sum): one pass over memory instead of two, forward and
/// backward. x and branch have one shape and dtype; the others as in layer_norm().
/// @throws ShapeError, DtypeError, DeviceError, KernelUnavailable.
[[nodiscard]] std::pair<Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& branch, const Tensor& weight = {},
                                                       const Tensor& bias = {}, double eps = 1e-5,
                                                       KernelChoice kernel = {});

}  // namespace trinix
