#pragma once

#include <trinix/autograd/record.h>

/// @file
/// How functions of autograd/ops follow an Autocast scope: one line at their beginning, such as
/// @code
/// if (lowers({a, b})) return matmul(lowered(a), lowered(b));
/// @endcode

namespace trinix {

/// Whether a scope is in force that wants one of the operands in its low dtype. Undefined ones are passed over.
[[nodiscard]] bool lowers(TensorList operands);
/// In the low dtype, if the operand is f32, f16 or bf16.
[[nodiscard]] Tensor lowered(const Tensor& operand);

/// Whether a scope is in force and one of the operands is f16 or bf16.
[[nodiscard]] bool widens(TensorList operands);
/// In f32, if the operand is f16 or bf16.
[[nodiscard]] Tensor widened(const Tensor& operand);

}  // namespace trinix
