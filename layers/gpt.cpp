#include <cmath>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention/latent_attention.h>
#include <trinix/layers/attention/self_attention.h>
#include <trinix/layers/gpt.h>

namespace trinix::nn {

using detail::fail;

void GptConfig::validate() const {
  const auto positive = [](const char* what, std::int64_t value) {
    if (value < 1) fail<ConfigError>("gpt", "{} is {}, but must be at least 1", what, value);
  };
  positive("vocab_size", vocab_size);
  positive("block_size", block_size);
  positive("layers", layers);
  positive("heads", heads);
  positive("width", width);
  positive("the width of the MLP", hidden());
  if (width % heads != 0) {
    fail<ConfigError>("gpt", "{} heads do not divide a width of {}: choose a width that is a multiple of the heads",
                      heads, width);
  }
  if (!(dropout >= 0 && dropout < 1)) fail<ConfigError>("gpt", "dropout is {}, but must lie in [0, 1)", dropout);
  if (attention != AttentionKind::gqa && kv_heads != 0) {
    fail<ConfigError>("gpt", "kv_heads {} are for grouped attention, not for {}", kv_heads, name(attention));
  }
  if (attention == AttentionKind::gqa && (kv_heads < 1 || heads % kv_heads != 0)) {
    fail<ConfigError>("gpt", "kv_heads is {}, but must divide the {} heads", kv_heads, heads);
  }
  if (!(norm_eps > 0)) fail<ConfigError>("gpt", "norm_eps is {}, but must be positive", norm_eps);
  if (!(init_std >= 0)) fail<ConfigError>("gpt", "init_std is {}, but must not be negative", init_std);
}

namespace {

LayerNormOptions norm_options(const GptConfig& c) {
  return {.features = c.width, .eps = c.norm_eps, .bias = c.bias, .tensor = c.tensor, .kernel = c.kernel};
}

/// Two branches per block are added to the residual stream, so its variance would grow with their number.
double output_std(const GptConfig& c) { return c.init_std / std::sqrt(2.0 * static_cast<double>(c.layers)); }

LanguageModelShape shape_of(const GptConfig& c) {
  c.validate();
  return {.vocab_size = c.vocab_size,
          .block_size = c.block_size,
          .layers = c.layers,
          .heads = c.heads,
          .width = c.width,
          .attention_width = c.width};
}

std::shared_ptr<AttentionLayer> make_gpt_attention(const GptConfig& c) {
  AttentionLayerOptions o{.embed_dim = c.width,
                          .num_heads = c.heads,
                          .num_kv_heads = c.kv_heads,
                          .dropout = c.dropout,
                          .bias = c.bias,
                          .causal = true,
                          .position = c.position,
                          .max_seq_len = c.block_size,
                          .rope_base = c.rope_base,
                          .sliding_window = c.sliding_window,
                          .qk_norm = c.qk_norm,
                          .latent_dim = c.latent_dim,
                          .rope_head_dim = c.rope_head_dim,
                          .init_std = c.init_std,
                          .output_init_std = output_std(c),
                          .tensor = c.tensor,
                          .generator = c.generator,
                          .kernel = c.kernel};
  if (c.attention == AttentionKind::mla) return std::make_shared<MultiHeadLatentAttention>(o);
  if (c.attention == AttentionKind::mqa) o.num_kv_heads = 1;
  return std::make_shared<CausalSelfAttention>(o);
}

}  // namespace

Block::Block(const GptConfig& c) : dropout_(c.dropout), generator_(c.generator) {
  ln_1_ = register_module("ln_1", std::make_shared<LayerNorm>(norm_options(c)));
  attn_ = register_module("attn", make_gpt_attention(c));
  ln_2_ = register_module("ln_2", std::make_shared<LayerNorm>(norm_options(c)));
  mlp_ =
      register_module("mlp", std::make_shared<Mlp>(FeedForwardOptions{
                                 .dim = c.width,
                                 .hidden_dim = c.hidden(),
                                 .activation = c.activation == Gelu::erf ? Activation::gelu_erf : Activation::gelu_tanh,
                                 .bias = c.bias,
                                 .init_std = c.init_std,
                                 .output_init_std = output_std(c),
                                 .tensor = c.tensor,
                                 .generator = c.generator}));
}

Residual Block::forward(const Residual& in, KvCache* cache, std::int64_t index) const {
  const BranchDropout dropout{is_training() ? dropout_ : 0, generator_};
  const auto [x, normed] = ln_1_->add_and_norm(in.x, in.branch, dropout);
  const auto [y, normed_again] =
      ln_2_->add_and_norm(x, attn_->forward(normed, {.cache = cache, .cache_layer = index}), dropout);
  return {y, mlp_->forward(normed_again)};
}

Gpt::Gpt(const GptConfig& config) : LanguageModel("gpt", shape_of(config)), config_(config) {
  const auto& c = config_;
  const auto table = [&](std::int64_t rows) {
    return std::make_shared<Embedding>(EmbeddingOptions{.num_embeddings = rows,
                                                        .embedding_dim = c.width,
                                                        .init_std = c.init_std,
                                                        .tensor = c.tensor,
                                                        .generator = c.generator});
  };
  const auto transformer = register_module("transformer", std::make_shared<Module>());
  wte_ = transformer->register_module("wte", table(c.vocab_size));
  if (c.learned_positions) wpe_ = transformer->register_module("wpe", table(c.block_size));
  drop_ = transformer->register_module(
      "drop", std::make_shared<Dropout>(DropoutOptions{.p = c.dropout, .generator = c.generator}));
  h_ = transformer->register_module("h", std::make_shared<ModuleList<Block>>());
  for (std::int64_t i = 0; i < c.layers; ++i) h_->push_back(std::make_shared<Block>(c));
  ln_f_ = transformer->register_module("ln_f", std::make_shared<LayerNorm>(norm_options(c)));
  lm_head_ =
      register_module("lm_head", c.tied_head ? std::make_shared<Linear>(wte_->weight())
                                             : std::make_shared<Linear>(LinearOptions{.in_features = c.width,
                                                                                      .out_features = c.vocab_size,
                                                                                      .bias = false,
                                                                                      .init_std = c.init_std,
                                                                                      .tensor = c.tensor,
                                                                                      .generator = c.generator}));
}

Tensor Gpt::embed(const Tensor& ids, std::int64_t start) const {
  const Tensor tokens = wte_->forward(ids);
  return drop_->forward(wpe_ == nullptr ? tokens : tokens + wpe_->weight().narrow(0, start, ids.size(1)));
}

Residual Gpt::run_block(std::int64_t index, const Residual& in, KvCache* cache) const {
  return (*h_)[static_cast<std::size_t>(index)].forward(in, cache, index);
}

Tensor Gpt::head(const Residual& out) const {
  const BranchDropout dropout{is_training() ? config_.dropout : 0, config_.generator};
  return lm_head_->forward(ln_f_->add_and_norm(out.x, out.branch, dropout).second);
}

KvCacheOptions Gpt::cache_options() const { return (*h_)[0].attention().cache_options(); }

}  // namespace trinix::nn
