#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention/multi_head_attention.h>

namespace trinix::nn {

namespace {

/// The options with the number of key heads that the layer is named for.
AttentionLayerOptions with_kv_heads(const char* name, AttentionLayerOptions options, std::int64_t kv_heads) {
  if (options.num_kv_heads != 0 && options.num_kv_heads != kv_heads) {
    detail::fail<ConfigError>(name,
                              "num_kv_heads is {}, but {} heads are of the layer's nature: GroupedQueryAttention "
                              "takes any number",
                              options.num_kv_heads, kv_heads);
  }
  options.num_kv_heads = kv_heads;
  return options;
}

}  // namespace

GroupedQueryAttention::GroupedQueryAttention(const AttentionLayerOptions& options)
    : GroupedQueryAttention("GroupedQueryAttention", options) {}

GroupedQueryAttention::GroupedQueryAttention(const char* name, const AttentionLayerOptions& options)
    : AttentionLayer(name, options) {
  refuse_latent_options();
  const AttentionLayerOptions& o = this->options();
  q_proj_ = project("q_proj", o.embed_dim, o.num_heads * o.head_dim);
  k_proj_ = project("k_proj", o.kdim, o.num_kv_heads * o.head_dim);
  v_proj_ = project("v_proj", o.vdim, o.num_kv_heads * o.head_dim);
  o_proj_ = project_output("o_proj", o.num_heads * o.head_dim);
}

KvCacheOptions GroupedQueryAttention::cache_options() const {
  return {.heads = options().num_kv_heads, .head_dim = options().head_dim};
}

Tensor GroupedQueryAttention::compute(const Tensor& query, const Tensor& key, const Tensor& value,
                                      const AttentionCall& call) const {
  const auto heads = [&](const Linear& projection, const Tensor& x) {
    const Tensor y = projection.forward(x);
    return y.view({y.size(0), y.size(1), y.size(2) / options().head_dim, options().head_dim});
  };
  return o_proj_->forward(mix(heads(*q_proj_, query), heads(*k_proj_, key), heads(*v_proj_, value), call));
}

MultiHeadAttention::MultiHeadAttention(const AttentionLayerOptions& options)
    : GroupedQueryAttention("MultiHeadAttention", with_kv_heads("MultiHeadAttention", options, options.num_heads)) {}

MultiQueryAttention::MultiQueryAttention(const AttentionLayerOptions& options)
    : GroupedQueryAttention("MultiQueryAttention", with_kv_heads("MultiQueryAttention", options, 1)) {}

}  // namespace trinix::nn
