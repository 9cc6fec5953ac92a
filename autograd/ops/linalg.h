#pragma once

#include <trinix/core/tensor.h>

/// @file
/// Matrix products.

namespace trinix {

/// Product of the last two dims, (..., M, K) x (..., K, N) -> (..., M, N), batch dims broadcasting. A one-dim operand
/// is treated as in NumPy: (K) x (..., K, N) -> (..., N), (..., M, K) x (K) -> (..., M), (K) x (K) -> scalar. Mixed
/// dtypes are promoted; integers are converted to f32.
/// @throws ShapeError naming both shapes when the inner sizes differ or an operand has no dims.
[[nodiscard]] Tensor matmul(const Tensor& a, const Tensor& b);

/// y = x weight^T + bias: x (..., in), weight (out, in), bias (out) or undefined -> (..., out). All of one dtype.
/// The gradients of weight and bias are added straight into their buffers.
/// @throws ShapeError, DtypeError, DeviceError.
[[nodiscard]] Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

}  // namespace trinix
