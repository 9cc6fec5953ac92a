#pragma once

#include <memory>
#include <optional>

#include <trinix/autograd/ops/unary.h>
#include <trinix/core/generator.h>
#include <trinix/layers/attention/make_attention.h>
#include <trinix/layers/dropout.h>
#include <trinix/layers/embedding.h>
#include <trinix/layers/feed_forward.h>
#include <trinix/layers/language_model.h>
#include <trinix/layers/linear.h>
#include <trinix/layers/norm.h>

/// @file
/// The GPT-2 model. Radford et al., "Language Models are Unsupervised Multitask Learners" (2019). Parameters have the
/// names of nanoGPT and of Hugging Face's GPT2LMHeadModel (whose matrices are stored transposed).

namespace trinix::nn {

/// The defaults are GPT-2 with 124 M parameters.
struct GptConfig {
  std::int64_t vocab_size = 50257;
  std::int64_t block_size = 1024;  ///< most tokens that one sequence can have
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  std::int64_t width = 768;
  std::int64_t mlp_width = 0;  ///< 0 stands for 4 * width
  double dropout = 0;          ///< on embeddings, attention probabilities, and the output of every residual branch
  bool bias = true;            ///< in linear and norm layers
  bool tied_head = true;       ///< the output head is the token embedding
  Gelu activation = Gelu::tanh;
  double norm_eps = 1e-5;
  double init_std = 0.02;  ///< of all matrices; those that end a residual branch get init_std / sqrt(2 layers)
  TensorOptions tensor = {};
  Generator* generator = nullptr;  ///< for initialisation and dropout; must outlive the model
  KernelChoice kernel = {};        ///< of attention and normalisation

  // What GPT-2 itself does not vary.
  AttentionKind attention = AttentionKind::mha;  ///< all but mla have one projection c_attn, with fewer key heads
  std::int64_t kv_heads = 0;                     ///< for gqa
  std::int64_t latent_dim = 0;                   ///< for mla; see AttentionLayerOptions
  std::int64_t rope_head_dim = 0;
  bool learned_positions = true;             ///< a table wpe, added to the token embeddings
  PositionChoice position = Position::none;  ///< in attention
  double rope_base = 10000;
  std::optional<std::int64_t> sliding_window = {};
  QkNorm qk_norm = QkNorm::none;

  /// Width of the hidden layer of the MLP.
  [[nodiscard]] std::int64_t hidden() const { return mlp_width == 0 ? 4 * width : mlp_width; }
  /// @throws ConfigError naming the first value that makes no sense.
  void validate() const;
};

/// FeedForward with GPT-2's names: x -> dropout(c_proj(activation(c_fc(x)))).
class Mlp : public FeedForward {
 public:
  explicit Mlp(const FeedForwardOptions& options) : FeedForward("c_fc", "c_proj", options) {}
};

/// x + dropout(attn(ln_1(x))), then that + dropout(mlp(ln_2(that))). The dropout of a branch is left to the norm that
/// adds it.
class Block : public Module {
 public:
  explicit Block(const GptConfig& config);
  /// `index` is the block's place among the cache's layers.
  [[nodiscard]] Residual forward(const Residual& in, KvCache* cache = nullptr, std::int64_t index = 0) const;

  [[nodiscard]] const AttentionLayer& attention() const { return *attn_; }

 private:
  double dropout_;
  Generator* generator_;
  std::shared_ptr<LayerNorm> ln_1_;
  std::shared_ptr<AttentionLayer> attn_;
  std::shared_ptr<LayerNorm> ln_2_;
  std::shared_ptr<Mlp> mlp_;
};

class Gpt : public LanguageModel {
 public:
  /// @throws ConfigError.
  explicit Gpt(const GptConfig& config);

  [[nodiscard]] const GptConfig& config() const { return config_; }

 protected:
  [[nodiscard]] Tensor embed(const Tensor& ids, std::int64_t start) const override;
  [[nodiscard]] Residual run_block(std::int64_t index, const Residual& in, KvCache* cache) const override;
  [[nodiscard]] Tensor head(const Residual& out) const override;
  [[nodiscard]] KvCacheOptions cache_options() const override;

 private:
  GptConfig config_;
  std::shared_ptr<Embedding> wte_;
  std::shared_ptr<Embedding> wpe_;  ///< null without learned positions
  std::shared_ptr<Dropout> drop_;
  std::shared_ptr<ModuleList<Block>> h_;
  std::shared_ptr<LayerNorm> ln_f_;
  std::shared_ptr<Linear> lm_head_;
};

}  // namespace trinix::nn
