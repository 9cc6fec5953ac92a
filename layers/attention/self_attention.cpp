#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention/self_attention.h>

namespace trinix::nn {

using detail::fail;

namespace {

AttentionLayerOptions with_kv_heads(AttentionLayerOptions options) {
  if (options.num_kv_heads == 0) options.num_kv_heads = options.num_heads;
  return options;
}

AttentionLayerOptions as_causal(AttentionLayerOptions options) {
  options.causal = true;
  return options;
}

}  // namespace

MultiHeadSelfAttention::MultiHeadSelfAttention(const AttentionLayerOptions& options)
    : MultiHeadSelfAttention({"MultiHeadSelfAttention", "qkv_proj", "o_proj"}, options) {}

MultiHeadSelfAttention::MultiHeadSelfAttention(const Names& names, const AttentionLayerOptions& options)
    : AttentionLayer(names.layer, with_kv_heads(options)) {
  refuse_latent_options();
  const AttentionLayerOptions& o = this->options();
  if (o.kdim != o.embed_dim || o.vdim != o.embed_dim) {
    fail<ConfigError>(names.layer,
                      "kdim {} and vdim {} differ from embed_dim {}, but keys and values come from the same sequence: "
                      "MultiHeadAttention takes others",
                      o.kdim, o.vdim, o.embed_dim);
  }
  qkv_proj_ = project(names.input, o.embed_dim, (o.num_heads + 2 * o.num_kv_heads) * o.head_dim);
  o_proj_ = project_output(names.output, o.num_heads * o.head_dim);
}

KvCacheOptions MultiHeadSelfAttention::cache_options() const {
  return {.heads = options().num_kv_heads, .head_dim = options().head_dim};
}

Tensor MultiHeadSelfAttention::compute(const Tensor& query, const Tensor& key, const Tensor& value,
                                       const AttentionCall& call) const {
  if (!key.same(query) || !value.same(query) || call.key_position_ids.defined()) {
    fail<ConfigError>(name(),
                      "keys and values come from the same sequence as the queries: MultiHeadAttention takes others");
  }
  return o_proj_->forward(mix_packed(qkv_proj_->forward(query), call));
}

CausalSelfAttention::CausalSelfAttention(const AttentionLayerOptions& options)
    : MultiHeadSelfAttention({"CausalSelfAttention", "c_attn", "c_proj"}, as_causal(options)) {}

}  // namespace trinix::nn
