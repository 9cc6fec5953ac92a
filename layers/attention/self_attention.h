#pragma once

#include <memory>

#include <trinix/layers/attention/attention_layer.h>

/// @file
/// Self-attention whose queries, keys and values come from one product.

namespace trinix::nn {

/// As MultiHeadAttention or, with num_kv_heads, GroupedQueryAttention, of a sequence to itself. Attention reads the
/// projection where it lies, and RoPE turns it in place.
///
/// Parameters: qkv_proj.weight ((num_heads + 2 num_kv_heads) * head_dim, embed_dim), rows in the order q, k, v;
/// o_proj.weight (embed_dim, num_heads * head_dim); a bias each; norms as in MultiHeadAttention.
class MultiHeadSelfAttention : public AttentionLayer {
 public:
  /// @throws ConfigError, also for kdim and vdim.
  explicit MultiHeadSelfAttention(const AttentionLayerOptions& options);

  [[nodiscard]] KvCacheOptions cache_options() const override;

 protected:
  /// What checkpoints of other makes call the projections.
  struct Names {
    const char* layer;
    const char* input;
    const char* output;
  };
  MultiHeadSelfAttention(const Names& names, const AttentionLayerOptions& options);
  /// @throws ConfigError unless the three are one and the same tensor.
  [[nodiscard]] Tensor compute(const Tensor& query, const Tensor& key, const Tensor& value,
                               const AttentionCall& call) const override;

 private:
  std::shared_ptr<Linear> qkv_proj_;
  std::shared_ptr<Linear> o_proj_;
};

/// The attention of GPT-2: causal, its projections called c_attn and c_proj.
class CausalSelfAttention : public MultiHeadSelfAttention {
 public:
  /// `causal` is set whatever the options say.
  explicit CausalSelfAttention(const AttentionLayerOptions& options);
};

}  // namespace trinix::nn
