#pragma once

#include <memory>
#include <optional>

#include <trinix/autograd/ops/glu.h>
#include <trinix/core/generator.h>
#include <trinix/layers/attention/make_attention.h>
#include <trinix/layers/embedding.h>
#include <trinix/layers/feed_forward.h>
#include <trinix/layers/language_model.h>
#include <trinix/layers/linear.h>
#include <trinix/layers/norm.h>

/// @file
/// The Llama model: RMSNorm, rotary positions, grouped attention, gated MLP, no biases. Touvron et al., arXiv
/// 2302.13971 and 2307.09288. Parameters have the names of Hugging Face's LlamaForCausalLM.

namespace trinix::nn {

struct LlamaConfig {
  std::int64_t vocab_size = 32000;
  std::int64_t block_size = 2048;  ///< most tokens that one sequence can have
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  std::int64_t width = 768;
  std::int64_t mlp_width = 0;  ///< 0 stands for gated_hidden(width)
  std::int64_t head_dim = 0;   ///< 0 stands for width / heads

  AttentionKind attention = AttentionKind::gqa;
  std::int64_t kv_heads = 0;  ///< for gqa; 0 stands for heads
  // For mla; see AttentionLayerOptions.
  std::int64_t latent_dim = 0;
  std::int64_t query_latent_dim = 0;
  std::int64_t rope_head_dim = 0;
  std::int64_t value_head_dim = 0;

  PositionChoice position = Position::rope;
  double rope_base = 10000;
  std::optional<std::int64_t> sliding_window = {};  ///< see AttentionLayerOptions
  QkNorm qk_norm = QkNorm::none;
  Glu gate = Glu::swiglu;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tied_head = false;  ///< the output head is the token embedding
  double dropout = 0;      ///< on embeddings, attention probabilities, and the output of every residual branch
  double norm_eps = 1e-6;
  double init_std = 0.02;  ///< of all matrices; those that end a residual branch get init_std / sqrt(2 layers)
  TensorOptions tensor = {};
  Generator* generator = nullptr;  ///< for initialisation and dropout; must outlive the model
  KernelChoice kernel = {};        ///< of attention, normalisation and the gated unit

  [[nodiscard]] std::int64_t hidden() const { return mlp_width == 0 ? gated_hidden(width) : mlp_width; }
  /// @throws ConfigError naming the first value that makes no sense.
  void validate() const;
};

/// x + dropout(self_attn(input_layernorm(x))), then that + dropout(mlp(post_attention_layernorm(that))). The dropout of
/// a branch is left to the norm that adds it.
class LlamaBlock : public Module {
 public:
  explicit LlamaBlock(const LlamaConfig& config);
  /// `index` is the block's place among the cache's layers.
  [[nodiscard]] Residual forward(const Residual& in, KvCache* cache = nullptr, std::int64_t index = 0) const;

  [[nodiscard]] const AttentionLayer& attention() const { return *self_attn_; }

 private:
  double dropout_;
  Generator* generator_;
  std::shared_ptr<RMSNorm> input_layernorm_;
  std::shared_ptr<AttentionLayer> self_attn_;
  std::shared_ptr<RMSNorm> post_attention_layernorm_;
  std::shared_ptr<GatedFeedForward> mlp_;
};

class Llama : public LanguageModel {
 public:
  /// @throws ConfigError.
  explicit Llama(const LlamaConfig& config);

  [[nodiscard]] const LlamaConfig& config() const { return config_; }

 protected:
  [[nodiscard]] Tensor embed(const Tensor& ids, std::int64_t start) const override;
  [[nodiscard]] Residual run_block(std::int64_t index, const Residual& in, KvCache* cache) const override;
  [[nodiscard]] Tensor head(const Residual& out) const override;
  [[nodiscard]] KvCacheOptions cache_options() const override;

 private:
  LlamaConfig config_;
  std::shared_ptr<Embedding> embed_tokens_;
  std::shared_ptr<Dropout> dropout_;
  std::shared_ptr<ModuleList<LlamaBlock>> layers_;
  std::shared_ptr<RMSNorm> norm_;
  std::shared_ptr<Linear> lm_head_;
};

}  // namespace trinix::nn
