#pragma once

#include <memory>

#include <trinix/layers/attention/attention_layer.h>

/// @file
/// Attention with a projection each for queries, keys and values: of a sequence to itself or to another one.

namespace trinix::nn {

/// Query head h uses key head h / (num_heads / num_kv_heads); keys and values are never repeated in memory. Ainslie et
/// al., arXiv 2305.13245.
///
/// Parameters: q_proj.weight (num_heads * head_dim, embed_dim), k_proj.weight (num_kv_heads * head_dim, kdim),
/// v_proj.weight (num_kv_heads * head_dim, vdim), o_proj.weight (embed_dim, num_heads * head_dim), a bias each;
/// q_norm.weight and k_norm.weight (head_dim) with qk_norm (and biases for QkNorm::layer).
class GroupedQueryAttention : public AttentionLayer {
 public:
  /// @throws ConfigError, also without num_kv_heads.
  explicit GroupedQueryAttention(const AttentionLayerOptions& options);

  [[nodiscard]] KvCacheOptions cache_options() const override;

 protected:
  GroupedQueryAttention(const char* name, const AttentionLayerOptions& options);
  [[nodiscard]] Tensor compute(const Tensor& query, const Tensor& key, const Tensor& value,
                               const AttentionCall& call) const override;

 private:
  std::shared_ptr<Linear> q_proj_;
  std::shared_ptr<Linear> k_proj_;
  std::shared_ptr<Linear> v_proj_;
  std::shared_ptr<Linear> o_proj_;
};

/// As many heads of keys and values as of queries. Vaswani et al., arXiv 1706.03762.
class MultiHeadAttention : public GroupedQueryAttention {
 public:
  /// @throws ConfigError, also for another num_kv_heads.
  explicit MultiHeadAttention(const AttentionLayerOptions& options);
};

/// One head of keys and values for all. Shazeer, arXiv 1911.02150.
class MultiQueryAttention : public GroupedQueryAttention {
 public:
  /// @throws ConfigError, also for more than one of num_kv_heads.
  explicit MultiQueryAttention(const AttentionLayerOptions& options);
};

}  // namespace trinix::nn
