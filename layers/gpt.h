#pragma once

#include <memory>
#include <optional>

#include <trinix/autograd/ops/unary.h>
#include <trinix/core/generator.h>
#include <trinix/layers/attention.h>
#include <trinix/layers/dropout.h>
#include <trinix/layers/embedding.h>
#include <trinix/layers/kv_cache.h>
#include <trinix/layers/linear.h>
#include <trinix/layers/module.h>
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

  /// Width of the hidden layer of the MLP.
  [[nodiscard]] std::int64_t hidden() const { return mlp_width == 0 ? 4 * width : mlp_width; }
  /// @throws ConfigError naming the first value that makes no sense.
  void validate() const;
};

struct MlpOptions {
  std::int64_t width = 0;
  std::int64_t hidden = 0;
  double dropout = 0;
  bool bias = true;
  Gelu activation = Gelu::tanh;
  std::optional<double> init_std = {};
  std::optional<double> output_init_std = {};
  TensorOptions tensor = {};
  Generator* generator = nullptr;
};

/// x -> dropout(c_proj(gelu(c_fc(x)))).
class Mlp : public Layer {
 public:
  explicit Mlp(const MlpOptions& options);
  [[nodiscard]] Tensor forward(const Tensor& x) const override;

 private:
  Gelu activation_;
  std::shared_ptr<Linear> c_fc_;
  std::shared_ptr<Linear> c_proj_;
  std::shared_ptr<Dropout> dropout_;
};

/// The residual stream between blocks: its value is x + branch. The addition is left to the next normalisation, which
/// does it in the same pass over memory. An undefined branch stands for 0.
struct Residual {
  Tensor x;
  Tensor branch;
};

/// x + attn(ln_1(x)), then that + mlp(ln_2(that)).
class Block : public Module {
 public:
  explicit Block(const GptConfig& config);
  /// `index` is the block's place among the cache's layers.
  [[nodiscard]] Residual forward(const Residual& in, KvCache* cache = nullptr, std::int64_t index = 0) const;

 private:
  std::shared_ptr<LayerNorm> ln_1_;
  std::shared_ptr<CausalSelfAttention> attn_;
  std::shared_ptr<LayerNorm> ln_2_;
  std::shared_ptr<Mlp> mlp_;
};

struct GptForwardOptions {
  /// Holds the tokens before `ids`, and afterwards those too.
  KvCache* cache = nullptr;
  /// Logits of the last position only: (B, 1, vocab_size).
  bool last_only = false;
};

class Gpt : public Module {
 public:
  /// @throws ConfigError.
  explicit Gpt(const GptConfig& config);

  /// ids (B, T), i64 or i32 -> logits (B, T, vocab_size).
  /// @throws ShapeError when a sequence with what the cache holds exceeds block_size; IndexError naming an id outside
  ///   the vocabulary.
  [[nodiscard]] Tensor forward(const Tensor& ids, const GptForwardOptions& options = {}) const;
  /// Mean cross-entropy of predicting targets (B, T), in nats per token; a target of -100 does not count.
  [[nodiscard]] Tensor loss(const Tensor& ids, const Tensor& targets) const;

  [[nodiscard]] const GptConfig& config() const { return config_; }
  /// An empty cache for this model; capacity 0 stands for block_size.
  [[nodiscard]] KvCache make_cache(std::int64_t batch = 1, std::int64_t capacity = 0) const;

 private:
  GptConfig config_;
  std::shared_ptr<Embedding> wte_;
  std::shared_ptr<Embedding> wpe_;
  std::shared_ptr<Dropout> drop_;
  std::shared_ptr<ModuleList<Block>> h_;
  std::shared_ptr<LayerNorm> ln_f_;
  std::shared_ptr<Linear> lm_head_;
};

}  // namespace trinix::nn
