#pragma once

#include <utility>

#include <trinix/autograd/backward_context.h>
#include <trinix/core/tensor.h>

/// @file
/// What the functions of indexing.h share in preparing their arguments.

namespace trinix {

/// @throws DtypeError unless `index` is i64 or i32; DeviceError unless it is on x's device.
void check_index_tensor(const char* op, const Tensor& x, const Tensor& index);

/// @throws IndexError naming the first index outside [0, size), its position, the size and `what` is counted.
void check_index_values(const char* op, const Tensor& index, std::int64_t size, const char* what);

/// Both tensors in the dtype that they promote to. @throws DeviceError.
[[nodiscard]] std::pair<Tensor, Tensor> promoted(const char* op, const Tensor& a, const Tensor& b);

/// Where the gradient of input `i` is to be added: zeros, unless there is something to add to.
[[nodiscard]] GradTarget zeroed_target(BackwardContext& ctx, int i);

}  // namespace trinix
