#pragma once

#include <cstdint>
#include <optional>

#include <trinix/core/generator.h>
#include <trinix/core/kernel.h>
#include <trinix/core/tensor.h>

/// @file
/// Scaled dot-product attention.

namespace trinix {

struct AttentionOptions {
  bool causal = false;               ///< row i sees keys j <= i + Sk - Sq (aligned to the bottom right)
  std::int64_t window_left = -1;     ///< row i sees keys j >= i + Sk - Sq - window_left; -1 for no limit
  std::int64_t window_right = -1;    ///< row i sees keys j <= i + Sk - Sq + window_right; -1 for no limit
  double dropout = 0;                ///< on the probabilities, after the softmax sum
  std::optional<double> scale = {};  ///< of the scores; default 1 / sqrt(head_dim)
  KernelChoice kernel = {};
  Generator* generator = nullptr;
};

/// softmax(q k^T * scale + mask) v per head: q (B, Sq, H, D), k (B, Sk, Hkv, D), v (B, Sk, Hkv, Dv) with Hkv dividing
/// H, any strides (a packed qkv projection is attended to without a copy) -> (B, Sq, H, Dv). Query head h uses key head
/// h / (H / Hkv). A row that sees no key gives zeros and zero gradients. Memory grows with S, not with S squared,
/// except in Kernel::reference. Dao et al., arXiv 2205.14135.
/// @throws ShapeError, DtypeError, DeviceError, ConfigError, KernelUnavailable.
[[nodiscard]] Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                                  const AttentionOptions& options = {});

/// scaled_dot_product_attention of the queries, keys and values in one projection qkv: (B, S, 3, H, D), or (B, S,
/// 3*H*D) in that order -> (B, S, H, D). The same result and kernels; the gradient is written into one tensor of qkv's
/// shape, with no pass that gathers three.
/// @throws as scaled_dot_product_attention().
[[nodiscard]] Tensor packed_self_attention(const Tensor& qkv, std::int64_t heads, const AttentionOptions& options = {});

}  // namespace trinix
