#include <cmath>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/llama.h>

namespace trinix::nn {

using detail::fail;

void LlamaConfig::validate() const {
  const auto positive = [](const char* what, std::int64_t value) {
    if (value < 1) fail<ConfigError>("llama", "{} is {}, but must be at least 1", what, value);
  };
  positive("vocab_size", vocab_size);
  positive("block_size", block_size);
  positive("layers", layers);
  positive("heads", heads);
  positive("width", width);
  positive("the width of the MLP", hidden());
  if (head_dim < 0 || (head_dim == 0 && width % heads != 0)) {
    fail<ConfigError>("llama", "{} heads do not divide a width of {}: choose other numbers, or give head_dim (now {})",
                      heads, width, head_dim);
  }
  if (attention != AttentionKind::gqa && kv_heads != 0) {
    fail<ConfigError>("llama", "kv_heads {} are for grouped attention, not for {}", kv_heads, name(attention));
  }
  if (kv_heads < 0 || (kv_heads > 0 && heads % kv_heads != 0)) {
    fail<ConfigError>("llama", "kv_heads is {}, but must divide the {} heads", kv_heads, heads);
  }
  if (!(dropout >= 0 && dropout < 1)) fail<ConfigError>("llama", "dropout is {}, but must lie in [0, 1)", dropout);
  if (!(norm_eps > 0)) fail<ConfigError>("llama", "norm_eps is {}, but must be positive", norm_eps);
  if (!(init_std >= 0)) fail<ConfigError>("llama", "init_std is {}, but must not be negative", init_std);
}

namespace {

RMSNormOptions norm_options(const LlamaConfig& c) {
  return {.features = c.width, .eps = c.norm_eps, .tensor = c.tensor, .kernel = c.kernel};
}

/// Two branches per block are added to the residual stream, so its variance would grow with their number.
double output_std(const LlamaConfig& c) { return c.init_std / std::sqrt(2.0 * static_cast<double>(c.layers)); }

std::int64_t head_dim_of(const LlamaConfig& c) { return c.head_dim == 0 ? c.width / c.heads : c.head_dim; }

LanguageModelShape shape_of(const LlamaConfig& c) {
  c.validate();
  const bool decoupled = c.rope_head_dim > 0;
  const std::int64_t query = head_dim_of(c) + c.rope_head_dim;
  const std::int64_t value = decoupled && c.value_head_dim > 0 ? c.value_head_dim : head_dim_of(c);
  return {.vocab_size = c.vocab_size,
          .block_size = c.block_size,
          .layers = c.layers,
          .heads = c.heads,
          .width = c.width,
          .attention_width = c.heads * (query + value) / 2};
}

/// One table of angles for all blocks.
LlamaConfig with_shared_rope(LlamaConfig c) {
  const auto* named = std::get_if<Position>(&c.position);
  if (named != nullptr && *named == Position::rope) {
    c.position = std::make_shared<RoPE>(RoPEOptions{.dim = c.rope_head_dim > 0 ? c.rope_head_dim : head_dim_of(c),
                                                    .max_positions = c.block_size,
                                                    .base = c.rope_base});
  }
  return c;
}

AttentionLayerOptions attention_options(const LlamaConfig& c) {
  const bool grouped = c.attention == AttentionKind::gqa;
  return {.embed_dim = c.width,
          .num_heads = c.heads,
          .num_kv_heads = grouped && c.kv_heads == 0 ? c.heads : c.kv_heads,
          .head_dim = c.head_dim,
          .dropout = c.dropout,
          .bias = c.attention_bias,
          .causal = true,
          .position = c.position,
          .max_seq_len = c.block_size,
          .rope_base = c.rope_base,
          .sliding_window = c.sliding_window,
          .qk_norm = c.qk_norm,
          .qk_norm_eps = c.norm_eps,
          .latent_dim = c.latent_dim,
          .query_latent_dim = c.query_latent_dim,
          .rope_head_dim = c.rope_head_dim,
          .value_head_dim = c.value_head_dim,
          .init_std = c.init_std,
          .output_init_std = output_std(c),
          .tensor = c.tensor,
          .generator = c.generator,
          .kernel = c.kernel};
}

}  // namespace

LlamaBlock::LlamaBlock(const LlamaConfig& c) : dropout_(c.dropout), generator_(c.generator) {
  // In the order of Hugging Face's files.
  self_attn_ = register_module("self_attn", make_attention(c.attention, attention_options(c)));
  mlp_ = register_module("mlp", std::make_shared<GatedFeedForward>(FeedForwardOptions{.dim = c.width,
                                                                                      .hidden_dim = c.hidden(),
                                                                                      .gate = c.gate,
                                                                                      .bias = c.mlp_bias,
                                                                                      .init_std = c.init_std,
                                                                                      .output_init_std = output_std(c),
                                                                                      .tensor = c.tensor,
                                                                                      .generator = c.generator,
                                                                                      .kernel = c.kernel}));
  input_layernorm_ = register_module("input_layernorm", std::make_shared<RMSNorm>(norm_options(c)));
  post_attention_layernorm_ = register_module("post_attention_layernorm", std::make_shared<RMSNorm>(norm_options(c)));
}

Residual LlamaBlock::forward(const Residual& in, KvCache* cache, std::int64_t index) const {
  const BranchDropout dropout{is_training() ? dropout_ : 0, generator_};
  const auto [x, normed] = input_layernorm_->add_and_norm(in.x, in.branch, dropout);
  const Tensor mixed = self_attn_->forward(normed, {.cache = cache, .cache_layer = index});
  const auto [y, normed_again] = post_attention_layernorm_->add_and_norm(x, mixed, dropout);
  return {y, mlp_->forward(normed_again)};
}

Llama::Llama(const LlamaConfig& config) : LanguageModel("llama", shape_of(config)), config_(with_shared_rope(config)) {
  const auto& c = config_;
  const auto model = register_module("model", std::make_shared<Module>());
  embed_tokens_ = model->register_module("embed_tokens",
                                         std::make_shared<Embedding>(EmbeddingOptions{.num_embeddings = c.vocab_size,
                                                                                      .embedding_dim = c.width,
                                                                                      .init_std = c.init_std,
                                                                                      .tensor = c.tensor,
                                                                                      .generator = c.generator}));
  dropout_ = model->register_module(
      "dropout", std::make_shared<Dropout>(DropoutOptions{.p = c.dropout, .generator = c.generator}));
  layers_ = model->register_module("layers", std::make_shared<ModuleList<LlamaBlock>>());
  for (std::int64_t i = 0; i < c.layers; ++i) layers_->push_back(std::make_shared<LlamaBlock>(c));
  norm_ = model->register_module("norm", std::make_shared<RMSNorm>(norm_options(c)));
  lm_head_ =
      register_module("lm_head", c.tied_head ? std::make_shared<Linear>(embed_tokens_->weight())
                                             : std::make_shared<Linear>(LinearOptions{.in_features = c.width,
                                                                                      .out_features = c.vocab_size,
                                                                                      .bias = false,
                                                                                      .init_std = c.init_std,
                                                                                      .tensor = c.tensor,
                                                                                      .generator = c.generator}));
}

Tensor Llama::embed(const Tensor& ids, std::int64_t /*start*/) const {
  return dropout_->forward(embed_tokens_->forward(ids));
}

Residual Llama::run_block(std::int64_t index, const Residual& in, KvCache* cache) const {
  return (*layers_)[static_cast<std::size_t>(index)].forward(in, cache, index);
}

Tensor Llama::head(const Residual& out) const {
  const BranchDropout dropout{is_training() ? config_.dropout : 0, config_.generator};
  return lm_head_->forward(norm_->add_and_norm(out.x, out.branch, dropout).second);
}

KvCacheOptions Llama::cache_options() const { return (*layers_)[0].attention().cache_options(); }

}  // namespace trinix::nn
