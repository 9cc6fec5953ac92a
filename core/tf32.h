#pragma once

/// @file
/// Faster f32 products on CUDA, at the price of precision.

namespace trinix {

/// When on, matrix products of f32 tensors on CUDA round their operands to TF32, which keeps 10 of 23 bits of the
/// significand (relative error about 5e-4 per operand instead of 6e-8), and sum in f32; that is several times as fast
/// on cards that have it (sm_80 and later). The CPU and other dtypes are not concerned. Off at start.
void allow_tf32(bool on);

[[nodiscard]] bool is_tf32_allowed();

}  // namespace trinix
