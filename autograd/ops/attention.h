#pragma once

#include <cstdint>
#include <optional>

#include <trinix/core/generator.h>
#include <trinix/core/kernel.h>
#include <trinix/core/tensor.h>

/// @file
/// Scaled dot-product attention.

namespace trinix {

/// Every combination of these is taken. What hides a key, or a row that no key is left to, takes no part, whatever the
/// hidden queries, keys and values hold: NaN in padding leaks neither into results nor into gradients.
struct AttentionOptions {
  bool causal = false;            ///< row i sees keys j <= i + Sk - Sq (aligned to the bottom right)
  std::int64_t window_left = -1;  ///< row i sees keys j >= i + Sk - Sq - window_left; -1 for no limit
  /// Row i sees keys j <= i + Sk - Sq + window_right; -1 for no limit. `causal` is window_right = 0.
  std::int64_t window_right = -1;
  /// (H) or (B, H), f32: -slope * |i + Sk - Sq - j| is added to the scores (Press et al., arXiv 2108.12409), without a
  /// tensor of that size. Has no gradient.
  Tensor alibi_slopes = {};
  /// (Sq, Sk), (B, Sq, Sk) or (B, H, Sq, Sk), sizes of 1 shared. bool: false hides. q's dtype or f32: added to the
  /// scaled scores; -inf hides. Gets a gradient when it requires one.
  Tensor mask = {};
  double dropout = 0;                ///< on the probabilities, after the softmax sum
  std::optional<double> scale = {};  ///< of the scores; default 1 / sqrt(head_dim)
  KernelChoice kernel = {};
  Generator* generator = nullptr;
};

/// softmax(q k^T * scale + bias) v per head: q (B, Sq, H, D), k (B, Sk, Hkv, D), v (B, Sk, Hkv, Dv) with Hkv dividing
/// H, any strides (a packed qkv projection is attended to without a copy) -> (B, Sq, H, Dv). Query head h uses key head
/// h / (H / Hkv); keys and values are never expanded. A row that sees no key gives zeros and zero gradients. Memory
/// grows with S, not with S squared, except in Kernel::reference and for the mask itself. Dao et al., arXiv 2205.14135.
/// @throws ShapeError, DtypeError, DeviceError, ConfigError, KernelUnavailable; AutogradError for slopes that require
///   a gradient.
[[nodiscard]] Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                                  const AttentionOptions& options = {});

struct AttentionResult {
  Tensor out;
  Tensor
      lse;  ///< log of the sum of exp of a row's scores, before dropout; f32 (f64 for f64); -inf for a row without keys
};

/// The same, with the log-sum-exp of each row (B, H, Sq), through which gradients flow too: results over parts of the
/// keys are joined by it.
/// @throws as scaled_dot_product_attention().
[[nodiscard]] AttentionResult attention_with_lse(const Tensor& q, const Tensor& k, const Tensor& v,
                                                 const AttentionOptions& options = {});

/// Attention within sequences of several lengths that lie one after another: q (total, H, D), k (total_k, Hkv, D), v
/// (total_k, Hkv, Dv) -> (total, H, Dv). Sequence n has the queries [query_starts[n], query_starts[n + 1]) and the keys
/// [key_starts[n], key_starts[n + 1]); both are i32 of shape (sequences + 1), from 0 to the total. No sequence is
/// longer than `longest_query` and `longest_key`. Causality, windows and ALiBi count within a sequence; slopes are (H)
/// or (sequences, H). There is no mask. The starts are checked on the CPU; on CUDA nobody waits to look at them.
/// @throws as scaled_dot_product_attention().
[[nodiscard]] Tensor scaled_dot_product_attention_varlen(const Tensor& q, const Tensor& k, const Tensor& v,
                                                         const Tensor& query_starts, const Tensor& key_starts,
                                                         std::int64_t longest_query, std::int64_t longest_key,
                                                         const AttentionOptions& options = {});

/// The same, with the log-sum-exp of each row (H, total).
/// @throws as scaled_dot_product_attention().
[[nodiscard]] AttentionResult attention_varlen_with_lse(const Tensor& q, const Tensor& k, const Tensor& v,
                                                        const Tensor& query_starts, const Tensor& key_starts,
                                                        std::int64_t longest_query, std::int64_t longest_key,
                                                        const AttentionOptions& options = {});

/// scaled_dot_product_attention of the queries, keys and values in one projection qkv: (B, S, 3, H, D), or (B, S,
/// 3*H*D) in that order -> (B, S, H, D). The same result and kernels; the gradient is written into one tensor of qkv's
/// shape, with no pass that gathers three.
/// @throws as scaled_dot_product_attention().
[[nodiscard]] Tensor packed_self_attention(const Tensor& qkv, std::int64_t heads, const AttentionOptions& options = {});

/// The same for fewer key heads than query heads: qkv (B, S, (H + 2 Hkv) * D) holds H heads of queries, then Hkv of
/// keys, then Hkv of values.
/// @throws as scaled_dot_product_attention().
[[nodiscard]] Tensor packed_self_attention(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads,
                                           const AttentionOptions& options = {});

}  // namespace trinix
