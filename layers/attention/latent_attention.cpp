#include <algorithm>

#include <trinix/autograd/ops/joining.h>
#include <trinix/autograd/ops/linalg.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention/latent_attention.h>
#include <trinix/layers/norm.h>

namespace trinix::nn {

using detail::fail;

namespace {

constexpr const char* kName = "MultiHeadLatentAttention";

/// With the defaults of the latent filled in.
AttentionLayerOptions completed(AttentionLayerOptions o) {
  if (o.latent_dim < 0 || o.query_latent_dim < 0 || o.rope_head_dim < 0 || o.value_head_dim < 0) {
    fail<ConfigError>(kName,
                      "latent_dim {}, query_latent_dim {}, rope_head_dim {} and value_head_dim {} must not be negative",
                      o.latent_dim, o.query_latent_dim, o.rope_head_dim, o.value_head_dim);
  }
  if (o.num_kv_heads != 0 && o.num_kv_heads != o.num_heads) {
    fail<ConfigError>(kName, "num_kv_heads is {}, but each of the {} heads has keys and values of its own",
                      o.num_kv_heads, o.num_heads);
  }
  const bool decoupled = o.rope_head_dim > 0;
  if (decoupled && o.qk_norm != QkNorm::none) {
    fail<ConfigError>(kName, "qk_norm cannot be combined with a rope_head_dim of {}: there the latents are normalised",
                      o.rope_head_dim);
  }
  if (!decoupled && o.value_head_dim != 0) {
    fail<ConfigError>(kName, "a value_head_dim of {} needs a rope_head_dim: in Trinix's form all heads have head_dim",
                      o.value_head_dim);
  }
  const std::int64_t kdim = o.kdim == 0 ? o.embed_dim : o.kdim;
  if (o.vdim != 0 && o.vdim != kdim) {
    fail<ConfigError>(kName, "kdim {} and vdim {} differ, but keys and values come from one latent", kdim, o.vdim);
  }
  o.vdim = kdim;
  o.num_kv_heads = o.num_heads;
  if (decoupled && o.value_head_dim == 0) {
    o.value_head_dim = o.head_dim != 0 || o.num_heads < 1 ? o.head_dim : o.embed_dim / o.num_heads;
  }
  if (o.latent_dim == 0) o.latent_dim = std::max<std::int64_t>(16, o.embed_dim / 8);
  if (!decoupled && o.query_latent_dim == 0) o.query_latent_dim = o.latent_dim;
  return o;
}

}  // namespace

MultiHeadLatentAttention::MultiHeadLatentAttention(const AttentionLayerOptions& options)
    : AttentionLayer(kName, completed(options)) {
  if (is_decoupled()) {
    make_decoupled();
  } else {
    make_low_rank();
  }
}

void MultiHeadLatentAttention::make_low_rank() {
  const AttentionLayerOptions& o = options();
  const std::int64_t width = o.num_heads * o.head_dim;
  q_down_ = project("q_down_proj", o.embed_dim, o.query_latent_dim);
  q_up_ = project("q_up_proj", o.query_latent_dim, width);
  kv_down_ = project("kv_down_proj", o.kdim, o.latent_dim);
  k_up_ = project("k_up_proj", o.latent_dim, width);
  v_up_ = project("v_up_proj", o.latent_dim, width);
  o_proj_ = project_output("o_proj", width);
}

void MultiHeadLatentAttention::make_decoupled() {
  const AttentionLayerOptions& o = options();
  const std::int64_t query_width = o.num_heads * (o.head_dim + o.rope_head_dim);
  const auto norm = [&](std::int64_t features) {
    return std::make_shared<RMSNorm>(RMSNormOptions{.features = features, .eps = o.qk_norm_eps, .tensor = o.tensor});
  };
  if (o.query_latent_dim > 0) {
    q_down_ = project("q_a_proj", o.embed_dim, o.query_latent_dim);
    q_latent_norm_ = register_module("q_a_layernorm", norm(o.query_latent_dim));
    q_up_ = project("q_b_proj", o.query_latent_dim, query_width, false);
  } else {
    q_up_ = project("q_proj", o.embed_dim, query_width);
  }
  kv_down_ = project("kv_a_proj_with_mqa", o.kdim, o.latent_dim + o.rope_head_dim);
  kv_latent_norm_ = register_module("kv_a_layernorm", norm(o.latent_dim));
  kv_up_ = project("kv_b_proj", o.latent_dim, o.num_heads * (o.head_dim + o.value_head_dim), false);
  o_proj_ = project_output("o_proj", o.num_heads * o.value_head_dim);
}

KvCacheOptions MultiHeadLatentAttention::cache_options() const {
  return {.heads = 1, .head_dim = options().latent_dim + options().rope_head_dim, .value_dim = 0};
}

Tensor MultiHeadLatentAttention::compute(const Tensor& query, const Tensor& key, const Tensor& value,
                                         const AttentionCall& call) const {
  if (!value.same(key)) fail<ConfigError>(kName, "keys and values come from one latent: pass one tensor for both");
  const Tensor mixed = is_decoupled() ? compute_decoupled(query, key, call) : compute_low_rank(query, key, call);
  return o_proj_->forward(mixed.reshape({mixed.size(0), mixed.size(1), mixed.size(2) * mixed.size(3)}));
}

/// (B, T, H * n) -> (B, T, H, n)
Tensor MultiHeadLatentAttention::heads_of(const Tensor& x) const {
  return x.view({x.size(0), x.size(1), options().num_heads, x.size(2) / options().num_heads});
}

Tensor MultiHeadLatentAttention::compute_low_rank(const Tensor& query, const Tensor& key,
                                                  const AttentionCall& call) const {
  Tensor latent = kv_down_->forward(key);
  // Keys are placed behind the latent, so each time all of them are, the cached ones too.
  TokenPlaces k_places = key_places(call);
  if (call.cache != nullptr) {
    if (k_places.ids.defined() && !call.key_position_ids.defined() && call.cache->length() > 0) {
      fail<ConfigError>(kName,
                        "positions were given for {} new tokens, but a cache of latents does not hold those of the {} "
                        "before: pass key_position_ids of all of them too",
                        key.size(1), call.cache->length());
    }
    k_places.first = 0;
    latent = call.cache->append(call.cache_layer, latent.unsqueeze(2)).first.squeeze({2});
  }
  const Tensor q = heads_of(q_up_->forward(q_down_->forward(query)));
  const Tensor k = heads_of(k_up_->forward(latent)), v = heads_of(v_up_->forward(latent));
  const auto [placed_q, placed_k] = norm_and_place(q, k, query_places(call), k_places);
  return attend(placed_q, placed_k, v, call, q.size(3));
}

Tensor MultiHeadLatentAttention::compute_decoupled(const Tensor& query, const Tensor& key,
                                                   const AttentionCall& call) const {
  const AttentionLayerOptions& o = options();
  const Tensor queries = q_down_ == nullptr ? query : q_latent_norm_->forward(q_down_->forward(query));
  const auto q = split(heads_of(q_up_->forward(queries)), {o.head_dim, o.rope_head_dim}, 3);
  const auto kv = split(kv_down_->forward(key), {o.latent_dim, o.rope_head_dim}, 2);
  Tensor latent = kv_latent_norm_->forward(kv[0]).unsqueeze(2);  // (B, T, 1, L), as a head of its own
  auto [q_rope, k_rope] = norm_and_place(q[1], kv[1].unsqueeze(2), query_places(call), key_places(call));
  if (call.cache == nullptr) return attend_expanded(q[0], q_rope, latent, k_rope, call);
  const Tensor entries = call.cache->append(call.cache_layer, cat({latent, k_rope}, 3)).first;
  if (absorbs(query.size(1), entries.size(1))) return attend_absorbed(q[0], q_rope, entries, call);
  const auto held = split(entries, {o.latent_dim, o.rope_head_dim}, 3);
  return attend_expanded(q[0], q_rope, held[0], held[1], call);
}

Tensor MultiHeadLatentAttention::attend_expanded(const Tensor& q_nope, const Tensor& q_rope, const Tensor& latent,
                                                 const Tensor& k_rope, const AttentionCall& call) const {
  const AttentionLayerOptions& o = options();
  const auto kv = split(heads_of(kv_up_->forward(latent.squeeze({2}))), {o.head_dim, o.value_head_dim}, 3);
  const Tensor shared = k_rope.expand({k_rope.size(0), k_rope.size(1), o.num_heads, o.rope_head_dim});
  const Tensor q = cat({q_nope, q_rope}, 3);
  return attend(q, cat({kv[0], shared}, 3), kv[1], call, q.size(3));
}

Tensor MultiHeadLatentAttention::attend_absorbed(const Tensor& q_nope, const Tensor& q_rope, const Tensor& entries,
                                                 const AttentionCall& call) const {
  const AttentionLayerOptions& o = options();
  const Tensor weight = kv_up_->weight().view({o.num_heads, o.head_dim + o.value_head_dim, o.latent_dim});
  const auto parts = split(weight, {o.head_dim, o.value_head_dim}, 1);
  // (B, H, T, nope) (H, nope, L) -> (B, H, T, L) -> (B, T, H, L)
  const Tensor q_latent = matmul(q_nope.transpose(1, 2), parts[0]).transpose(1, 2);
  const Tensor mixed = attend(cat({q_latent, q_rope}, 3), entries, entries.narrow(3, 0, o.latent_dim), call,
                              o.head_dim + o.rope_head_dim);
  return matmul(mixed.transpose(1, 2), parts[1].transpose(1, 2)).transpose(1, 2);
}

bool MultiHeadLatentAttention::absorbs(std::int64_t queries, std::int64_t keys) const {
  if (absorb_ != Absorb::automatic) return absorb_ == Absorb::always;
  const AttentionLayerOptions& o = options();
  // Multiplications per head: for the projections, and for a query with a key.
  const std::int64_t projection = o.latent_dim * (o.head_dim + o.value_head_dim);
  const std::int64_t expanded = keys * projection + queries * keys * (o.head_dim + o.rope_head_dim + o.value_head_dim);
  const std::int64_t absorbed = queries * projection + queries * keys * (2 * o.latent_dim + o.rope_head_dim);
  return absorbed < expanded;
}

}  // namespace trinix::nn
