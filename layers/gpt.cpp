#include <cmath>
#include <tuple>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/linear_gelu.h>
#include <trinix/autograd/ops/loss.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
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
  if (!(norm_eps > 0)) fail<ConfigError>("gpt", "norm_eps is {}, but must be positive", norm_eps);
  if (!(init_std >= 0)) fail<ConfigError>("gpt", "init_std is {}, but must not be negative", init_std);
}

Mlp::Mlp(const MlpOptions& o) : activation_(o.activation) {
  c_fc_ = register_module("c_fc", std::make_shared<Linear>(LinearOptions{.in_features = o.width,
                                                                         .out_features = o.hidden,
                                                                         .bias = o.bias,
                                                                         .init_std = o.init_std,
                                                                         .tensor = o.tensor,
                                                                         .generator = o.generator}));
  c_proj_ = register_module("c_proj", std::make_shared<Linear>(LinearOptions{.in_features = o.hidden,
                                                                             .out_features = o.width,
                                                                             .bias = o.bias,
                                                                             .init_std = o.output_init_std,
                                                                             .tensor = o.tensor,
                                                                             .generator = o.generator}));
  dropout_ =
      register_module("dropout", std::make_shared<Dropout>(DropoutOptions{.p = o.dropout, .generator = o.generator}));
}

Tensor Mlp::forward(const Tensor& x) const {
  if (activation_ == Gelu::tanh) {
    return dropout_->forward(gelu_mlp(x, c_fc_->weight(), c_fc_->bias(), c_proj_->weight(), c_proj_->bias()));
  }
  return dropout_->forward(c_proj_->forward(gelu(c_fc_->forward(x), activation_)));
}

namespace {

LayerNormOptions norm_options(const GptConfig& c) {
  return {.features = c.width, .eps = c.norm_eps, .bias = c.bias, .tensor = c.tensor, .kernel = c.kernel};
}

/// Two branches per block are added to the residual stream, so its variance would grow with their number.
double output_std(const GptConfig& c) { return c.init_std / std::sqrt(2.0 * static_cast<double>(c.layers)); }

}  // namespace

Block::Block(const GptConfig& c) {
  ln_1_ = register_module("ln_1", std::make_shared<LayerNorm>(norm_options(c)));
  attn_ = register_module(
      "attn", std::make_shared<CausalSelfAttention>(CausalSelfAttentionOptions{.width = c.width,
                                                                               .heads = c.heads,
                                                                               .dropout = c.dropout,
                                                                               .bias = c.bias,
                                                                               .init_std = c.init_std,
                                                                               .output_init_std = output_std(c),
                                                                               .tensor = c.tensor,
                                                                               .generator = c.generator,
                                                                               .kernel = c.kernel}));
  ln_2_ = register_module("ln_2", std::make_shared<LayerNorm>(norm_options(c)));
  mlp_ = register_module("mlp", std::make_shared<Mlp>(MlpOptions{.width = c.width,
                                                                 .hidden = c.hidden(),
                                                                 .dropout = c.dropout,
                                                                 .bias = c.bias,
                                                                 .activation = c.activation,
                                                                 .init_std = c.init_std,
                                                                 .output_init_std = output_std(c),
                                                                 .tensor = c.tensor,
                                                                 .generator = c.generator}));
}

Residual Block::forward(const Residual& in, KvCache* cache, std::int64_t index) const {
  const auto [x, normed] = ln_1_->add_and_norm(in.x, in.branch);
  const auto [y, normed_again] = ln_2_->add_and_norm(x, attn_->forward(normed, cache, index));
  return {y, mlp_->forward(normed_again)};
}

Gpt::Gpt(const GptConfig& config) : config_(config) {
  config.validate();
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
  wpe_ = transformer->register_module("wpe", table(c.block_size));
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

Tensor Gpt::forward(const Tensor& ids, const GptForwardOptions& options) const {
  if (ids.rank() != 2 || ids.numel() == 0) {
    fail<ShapeError>("gpt", "token ids must be (batch, tokens) with at least one of each, got {}", ids.shape());
  }
  KvCache* const cache = options.cache;
  const std::int64_t tokens = ids.size(1);
  const std::int64_t start = cache == nullptr ? 0 : cache->length();
  if (start + tokens > config_.block_size) {
    fail<ShapeError>("gpt", "{} tokens behind {} cached ones exceed the block size of {}", tokens, start,
                     config_.block_size);
  }
  const Tensor positions = wpe_->weight().narrow(0, start, tokens);
  Residual stream{drop_->forward(wte_->forward(ids) + positions), {}};
  std::int64_t index = 0;
  for (const auto& block : *h_) stream = block->forward(stream, cache, index++);
  if (cache != nullptr) cache->advance(tokens);
  if (options.last_only) {
    stream.x = stream.x.narrow(1, tokens - 1, 1);
    stream.branch = stream.branch.narrow(1, tokens - 1, 1);
  }
  return lm_head_->forward(ln_f_->add_and_norm(stream.x, stream.branch).second);
}

Tensor Gpt::loss(const Tensor& ids, const Tensor& targets) const {
  // Nobody else sees the logits, which are the largest tensor of a step: their gradient may take their place.
  return cross_entropy(forward(ids), targets, {.overwrite_logits = true});
}

KvCache Gpt::make_cache(std::int64_t batch, std::int64_t capacity) const {
  return KvCache({.layers = config_.layers,
                  .batch = batch,
                  .capacity = capacity == 0 ? config_.block_size : capacity,
                  .heads = config_.heads,
                  .head_dim = config_.width / config_.heads,
                  .tensor = {wte_->weight().dtype(), wte_->weight().device()}});
}

}  // namespace trinix::nn
