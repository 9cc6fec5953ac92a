#include <cmath>
#include <limits>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention/attention_layer.h>
#include <trinix/layers/init.h>
#include <trinix/layers/norm.h>

namespace trinix::nn {

using detail::fail;

namespace {

std::shared_ptr<Layer> make_qk_norm(const AttentionLayerOptions& o) {
  if (o.qk_norm == QkNorm::rms) {
    return std::make_shared<RMSNorm>(RMSNormOptions{.features = o.head_dim, .eps = o.qk_norm_eps, .tensor = o.tensor});
  }
  return std::make_shared<LayerNorm>(
      LayerNormOptions{.features = o.head_dim, .eps = o.qk_norm_eps, .tensor = o.tensor});
}

/// With a dim for heads, so that masks of several ranks broadcast together.
Tensor with_heads(const Tensor& mask) { return mask.rank() == 3 ? mask.unsqueeze(1) : mask; }

/// Both of what is added to the scores; either may be undefined.
Tensor combined(const Tensor& mask, const Tensor& bias) {
  if (!bias.defined()) return mask;
  if (!mask.defined()) return bias;
  const Tensor b = with_heads(bias), m = with_heads(mask);
  if (m.dtype() != DType::boolean) return m + b;
  return where(m, b, full({}, -std::numeric_limits<double>::infinity(), {b.dtype(), b.device()}));
}

}  // namespace

AttentionLayer::AttentionLayer(const char* name, const AttentionLayerOptions& options)
    : name_(name), options_(options) {
  AttentionLayerOptions& o = options_;
  validate();
  if (o.head_dim == 0) o.head_dim = o.embed_dim / o.num_heads;
  if (o.kdim == 0) o.kdim = o.embed_dim;
  if (o.vdim == 0) o.vdim = o.embed_dim;
  if (o.qk_norm != QkNorm::none) {
    q_norm_ = register_module("q_norm", make_qk_norm(o));
    k_norm_ = register_module("k_norm", make_qk_norm(o));
  }
  position_ = make_position(o.position, {.heads = o.num_heads,
                                         .dim = o.rope_head_dim > 0 ? o.rope_head_dim : o.head_dim,
                                         .max_positions = o.max_seq_len,
                                         .rope_base = o.rope_base});
  if (position_ != nullptr) register_module("position", position_);
}

void AttentionLayer::validate() const {
  const AttentionLayerOptions& o = options_;
  if (o.embed_dim < 1 || o.num_heads < 1 || o.num_kv_heads < 1) {
    fail<ConfigError>(name_, "embed_dim {}, num_heads {} and num_kv_heads {} must be positive", o.embed_dim,
                      o.num_heads, o.num_kv_heads);
  }
  if (o.head_dim == 0 && o.embed_dim % o.num_heads != 0) {
    fail<ConfigError>(name_, "{} heads do not divide an embed_dim of {}: choose other numbers, or give head_dim",
                      o.num_heads, o.embed_dim);
  }
  if (o.num_heads % o.num_kv_heads != 0) {
    fail<ConfigError>(name_, "{} heads of keys and values cannot be shared evenly by {} heads of queries",
                      o.num_kv_heads, o.num_heads);
  }
  if (o.head_dim < 0 || o.kdim < 0 || o.vdim < 0) {
    fail<ConfigError>(name_, "head_dim {}, kdim {} and vdim {} must not be negative", o.head_dim, o.kdim, o.vdim);
  }
  if (!(o.dropout >= 0 && o.dropout <= 1)) {
    fail<ConfigError>(name_, "dropout is a probability, so {} is not between 0 and 1", o.dropout);
  }
  if (o.sliding_window && *o.sliding_window < 0) {
    fail<ConfigError>(name_, "a sliding_window of {} keys must not be negative: leave it out for no limit",
                      *o.sliding_window);
  }
  if (o.max_seq_len < 1) fail<ConfigError>(name_, "max_seq_len is {}, but must be positive", o.max_seq_len);
}

void AttentionLayer::refuse_latent_options() const {
  const AttentionLayerOptions& o = options_;
  if (o.latent_dim == 0 && o.query_latent_dim == 0 && o.rope_head_dim == 0 && o.value_head_dim == 0) return;
  fail<ConfigError>(name_,
                    "latent_dim {}, query_latent_dim {}, rope_head_dim {} and value_head_dim {} belong to "
                    "MultiHeadLatentAttention and must be 0 here",
                    o.latent_dim, o.query_latent_dim, o.rope_head_dim, o.value_head_dim);
}

Tensor AttentionLayer::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                               const AttentionCall& call) const {
  const AttentionLayerOptions& o = options_;
  const auto check = [&](const char* what, const Tensor& x, std::int64_t width) {
    if (x.rank() != 3 || x.size(2) != width) {
      fail<ShapeError>(name_, "the {} must be {}, got {}", what,
                       detail::format(o.batch_first ? "(batch, tokens, {})" : "(tokens, batch, {})", width), x.shape());
    }
  };
  check("query", query, o.embed_dim);
  check("key", key, o.kdim);
  check("value", value, o.vdim);
  const int batch = o.batch_first ? 0 : 1;
  if (key.size(batch) != query.size(batch) || value.size(batch) != query.size(batch) ||
      value.size(1 - batch) != key.size(1 - batch)) {
    fail<ShapeError>(name_, "query {}, key {} and value {} do not fit: one batch for all, as many values as keys",
                     query.shape(), key.shape(), value.shape());
  }
  if (o.batch_first) return compute(query, key, value, call);
  // One view of one sequence, so that a layer still sees that it is the same.
  const Tensor q = query.transpose(0, 1);
  const Tensor k = key.same(query) ? q : key.transpose(0, 1);
  const Tensor v = value.same(key) ? k : value.transpose(0, 1);
  return compute(q, k, v, call).transpose(0, 1);
}

KvCache AttentionLayer::make_cache(std::int64_t batch, std::int64_t capacity) const {
  KvCacheOptions sizes = cache_options();
  sizes.layers = 1;
  sizes.batch = batch;
  sizes.capacity = capacity == 0 ? options_.max_seq_len : capacity;
  const Tensor parameter = parameters().front();
  sizes.tensor = {parameter.dtype(), parameter.device()};
  return KvCache(sizes);
}

TokenPlaces AttentionLayer::query_places(const AttentionCall& call) {
  if (call.position_ids.defined()) return {.first = 0, .ids = call.position_ids};
  return {.first = call.cache == nullptr ? 0 : call.cache->length(), .ids = {}};
}

TokenPlaces AttentionLayer::key_places(const AttentionCall& call) {
  return call.key_position_ids.defined() ? TokenPlaces{.first = 0, .ids = call.key_position_ids} : query_places(call);
}

std::pair<Tensor, Tensor> AttentionLayer::norm_and_place(const Tensor& q, const Tensor& k, const TokenPlaces& q_places,
                                                         const TokenPlaces& k_places) const {
  const Tensor normed_q = q_norm_ == nullptr ? q : q_norm_->forward(q);
  const Tensor normed_k = k_norm_ == nullptr ? k : k_norm_->forward(k);
  if (position_ == nullptr) return {normed_q, normed_k};
  return position_->forward(normed_q, normed_k, q_places, k_places);
}

AttentionOptions AttentionLayer::call_options(std::int64_t queries, std::int64_t keys, std::int64_t columns,
                                              const TensorOptions& like, const AttentionCall& call) const {
  const AttentionLayerOptions& o = options_;
  AttentionOptions a{.causal = o.causal,
                     .mask = call.mask,
                     .dropout = is_training() ? o.dropout : 0,
                     .scale = o.scale.value_or(1 / std::sqrt(static_cast<double>(columns))),
                     .kernel = o.kernel,
                     .generator = o.generator};
  if (o.sliding_window) {
    a.window_left = *o.sliding_window;
    if (!o.causal) a.window_right = *o.sliding_window;
  }
  if (position_ != nullptr) {
    a.alibi_slopes = position_->slopes(query_places(call), like.device);
    a.mask = combined(a.mask, position_->bias(queries, keys, like));
  }
  return a;
}

Tensor AttentionLayer::attend(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionCall& call,
                              std::int64_t columns) const {
  const AttentionOptions a = call_options(q.size(1), k.size(1), columns, {q.dtype(), q.device()}, call);
  if (!options_.add_zero_attn) return scaled_dot_product_attention(q, k, v, a);
  // A key of zeros has the score 0 and adds 1 to a row's sum of exponentials, its value adds nothing:
  // out sum / (1 + sum), where sum = exp(lse).
  const AttentionResult result = attention_with_lse(q, k, v, a);
  const Tensor share = sigmoid(result.lse).transpose(1, 2).unsqueeze(-1);
  return (result.out * share).to(q.dtype());
}

Tensor AttentionLayer::mix(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionCall& call) const {
  const auto [query, key] = norm_and_place(q, k, query_places(call), key_places(call));
  std::pair<Tensor, Tensor> held{key, v};
  if (call.cache != nullptr) held = call.cache->append(call.cache_layer, key, v);
  const Tensor out = attend(query, held.first, held.second, call, q.size(3));
  return out.reshape({out.size(0), out.size(1), out.size(2) * out.size(3)});
}

Tensor AttentionLayer::mix_packed(const Tensor& qkv, const AttentionCall& call) const {
  const AttentionLayerOptions& o = options_;
  const std::int64_t batch = qkv.size(0), tokens = qkv.size(1);
  const TokenPlaces places = query_places(call);
  const bool placed = q_norm_ == nullptr &&
                      (position_ == nullptr || position_->apply_packed_(qkv, o.num_heads, o.num_kv_heads, places));
  if (placed && call.cache == nullptr && !o.add_zero_attn) {
    const AttentionOptions a = call_options(tokens, tokens, o.head_dim, {qkv.dtype(), qkv.device()}, call);
    return packed_self_attention(qkv, o.num_heads, o.num_kv_heads, a)
        .reshape({batch, tokens, o.num_heads * o.head_dim});
  }
  const auto part = [&](std::int64_t first, std::int64_t heads) {
    return qkv.narrow(2, first * o.head_dim, heads * o.head_dim).view({batch, tokens, heads, o.head_dim});
  };
  const Tensor q = part(0, o.num_heads), k = part(o.num_heads, o.num_kv_heads),
               v = part(o.num_heads + o.num_kv_heads, o.num_kv_heads);
  if (!placed) return mix(q, k, v, call);
  std::pair<Tensor, Tensor> held{k, v};
  if (call.cache != nullptr) held = call.cache->append(call.cache_layer, k, v);
  return attend(q, held.first, held.second, call, o.head_dim).reshape({batch, tokens, o.num_heads * o.head_dim});
}

std::shared_ptr<Linear> AttentionLayer::add_linear(const std::string& name, const LinearOptions& options) {
  LinearOptions o = options;
  o.tensor = options_.tensor;
  o.generator = options_.generator;
  const auto linear = register_module(name, std::make_shared<Linear>(o));
  if (!o.init_std) {
    init::xavier_uniform_(linear->weight(), 1, o.generator);
    if (o.bias) init::zeros_(linear->bias());
  }
  return linear;
}

std::shared_ptr<Linear> AttentionLayer::project(const std::string& name, std::int64_t in, std::int64_t out,
                                                bool may_have_bias) {
  return add_linear(
      name,
      {.in_features = in, .out_features = out, .bias = may_have_bias && options_.bias, .init_std = options_.init_std});
}

std::shared_ptr<Linear> AttentionLayer::project_output(const std::string& name, std::int64_t in) {
  return add_linear(name, {.in_features = in,
                           .out_features = options_.embed_dim,
                           .bias = options_.bias,
                           .init_std = options_.output_init_std ? options_.output_init_std : options_.init_std});
}

}  // namespace trinix::nn
