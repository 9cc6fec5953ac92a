#pragma once

#include <trinix/autograd/backward_context.h>
#include <trinix/core/tensor.h>

/// @file
/// What the functions that contain linear layers share.

namespace trinix {

/// @throws ShapeError, DtypeError, DeviceError naming `op` unless x weight^T + bias can be computed.
void check_linear(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias);

/// The same matrices with the last two dims exchanged.
[[nodiscard]] View transposed(View v);

/// All dims but the last merged into one. The tensor must be row-major.
[[nodiscard]] View as_rows(const Tensor& t);

/// Matmul, which may be one over nothing.
void run_matmul(const View& a, const View& b, const View& out, const View& bias = {}, bool accumulate = false);

/// Gives input number `input` its gradient dy weight; dy is row-major.
void give_linear_input_gradient(BackwardContext& ctx, int input, const Tensor& dy, const Shape& shape,
                                const Tensor& weight);

/// Gives the weight its gradient dy^T x and the bias the sums of dy's columns, as far as they are wanted; both are the
/// numbers of inputs, dy is row-major.
void give_linear_parameter_gradients(BackwardContext& ctx, int weight, int bias, const Tensor& dy, const Tensor& x);

}  // namespace trinix
