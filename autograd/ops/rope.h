#pragma once

#include <cstdint>

#include <trinix/core/kernel.h>
#include <trinix/core/ops/rope.h>
#include <trinix/core/tensor.h>

/// @file
/// Rotary position embedding. nn::RoPE (layers/rope.h) makes the tables.

namespace trinix {

struct RopeOptions {
  RopeLayout layout = RopeLayout::half;
  std::int64_t first_position = 0;  ///< of the first token; the others follow
  Tensor positions = {};            ///< of each token instead, (S) or (B, S), i64 or i32
  KernelChoice kernel = {};
};

/// Turns the first R columns of each head by the angles of the token's position, and copies the others: x (B, S, H, D),
/// any strides -> the same shape; cos, sin (P, R/2), f32, for the positions 0 .. P-1, R <= D. The backward turns the
/// gradient back, in place where nobody else holds it, and keeps nothing of x. Su et al., arXiv 2104.09864.
/// @throws ShapeError, DtypeError, DeviceError; IndexError for a position that is not in the tables (late on CUDA where
///   `positions` is given, see core/ops/check_index.h); ConfigError for both ways of giving positions at once;
///   AutogradError for tables that require grad; KernelUnavailable.
[[nodiscard]] Tensor rope(const Tensor& x, const Tensor& cos, const Tensor& sin, const RopeOptions& options = {});

/// The same in place. @throws besides, AutogradError for a leaf that requires grad and for a view of a tensor with a
/// history.
const Tensor& rope_(const Tensor& x, const Tensor& cos, const Tensor& sin, const RopeOptions& options = {});

/// In place on the query and key heads of one projection qkv (B, S, (heads + 2 kv_heads) * D), columns in the order q,
/// k, v: one pass over two thirds of it (for kv_heads = heads), and no copy.
/// @throws as rope_().
const Tensor& rope_packed_(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads, const Tensor& cos,
                           const Tensor& sin, const RopeOptions& options = {});

}  // namespace trinix
