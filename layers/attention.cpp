
#include <trinix/autograd/ops/attention.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention.h>

namespace trinix::nn {

using detail::fail;

CausalSelfAttention::CausalSelfAttention(const CausalSelfAttentionOptions& o) : options_(o) {
  if (o.width < 1 || o.heads < 1) {
    fail<ConfigError>("CausalSelfAttention", "width {} and heads {} must be positive", o.width, o.heads);
  }
  if (o.width % o.heads != 0) {
    fail<ConfigError>("CausalSelfAttention", "{} heads do not divide a width of {}", o.heads, o.width);
  }
  c_attn_ = register_module("c_attn", std::make_shared<Linear>(LinearOptions{.in_features = o.width,
                                                                             .out_features = 3 * o.width,
                                                                             .bias = o.bias,
                                                                             .init_std = o.init_std,
                                                                             .tensor = o.tensor,
                                                                             .generator = o.generator}));
  c_proj_ = register_module("c_proj", std::make_shared<Linear>(LinearOptions{.in_features = o.width,
                                                                             .out_features = o.width,
                                                                             .bias = o.bias,
                                                                             .init_std = o.output_init_std,
                                                                             .tensor = o.tensor,
                                                                             .generator = o.generator}));
  resid_dropout_ = register_module("resid_dropout",
                                   std::make_shared<Dropout>(DropoutOptions{.p = o.dropout, .generator = o.generator}));
}

Tensor CausalSelfAttention::forward(const Tensor& x, KvCache* cache, std::int64_t layer) const {
  if (x.rank() != 3 || x.size(2) != options_.width) {
    fail<ShapeError>("CausalSelfAttention", "takes (batch, tokens, {}), got {}", options_.width, x.shape());
  }
  const std::int64_t batch = x.size(0), tokens = x.size(1);
  const AttentionOptions attention{.causal = true,
                                   .dropout = is_training() ? options_.dropout : 0,
                                   .kernel = options_.kernel,
                                   .generator = options_.generator};
  const Tensor qkv = c_attn_->forward(x);
  Tensor y;
  if (cache == nullptr) {
    y = packed_self_attention(qkv, options_.heads, attention);
  } else {
    const Tensor parts = qkv.view({batch, tokens, 3, options_.heads, options_.width / options_.heads});
    const auto [k, v] = cache->append(layer, parts.select(2, 1), parts.select(2, 2));
    y = scaled_dot_product_attention(parts.select(2, 0), k, v, attention);
  }
  return resid_dropout_->forward(c_proj_->forward(y.reshape({batch, tokens, options_.width})));
}

}  // namespace trinix::nn
