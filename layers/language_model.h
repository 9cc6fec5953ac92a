#pragma once

#include <trinix/core/tensor.h>
#include <trinix/layers/kv_cache.h>
#include <trinix/layers/module.h>

/// @file
/// What every model that predicts the next token is to those who train it and write with it.

namespace trinix::nn {

/// The residual stream between blocks: its value is x + branch. The addition is left to the next normalisation, which
/// does it in the same pass over memory. An undefined branch stands for 0.
struct Residual {
  Tensor x;
  Tensor branch;
};

struct LanguageModelShape {
  std::int64_t vocab_size = 0;
  std::int64_t block_size = 0;  ///< most tokens that one sequence can have
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t width = 0;
  /// Multiplications of a query with one key and of one probability with its value, over all heads, halved: the width,
  /// where heads share it out evenly.
  std::int64_t attention_width = 0;
};

struct LanguageModelCall {
  /// Holds the tokens before `ids`, and afterwards those too.
  KvCache* cache = nullptr;
  /// Logits of the last position only: (B, 1, vocab_size).
  bool last_only = false;
};

class LanguageModel : public Module {
 public:
  /// ids (B, T), i64 or i32 -> logits (B, T, vocab_size).
  /// @throws ShapeError when a sequence with what the cache holds exceeds block_size; IndexError naming an id outside
  ///   the vocabulary.
  [[nodiscard]] Tensor forward(const Tensor& ids, const LanguageModelCall& call = {}) const;
  /// Mean cross-entropy of predicting targets (B, T), in nats per token; a target of -100 does not count.
  [[nodiscard]] Tensor loss(const Tensor& ids, const Tensor& targets) const;

  [[nodiscard]] const LanguageModelShape& shape() const { return shape_; }
  /// An empty cache for this model; capacity 0 stands for block_size.
  [[nodiscard]] KvCache make_cache(std::int64_t batch = 1, std::int64_t capacity = 0) const;

 protected:
  /// `name` is for errors.
  LanguageModel(const char* name, const LanguageModelShape& shape) : name_(name), shape_(shape) {}

  /// What enters the first block: ids (B, T) that follow `start` tokens -> (B, T, width).
  [[nodiscard]] virtual Tensor embed(const Tensor& ids, std::int64_t start) const = 0;
  /// Block number `index` of shape().layers.
  [[nodiscard]] virtual Residual run_block(std::int64_t index, const Residual& in, KvCache* cache) const = 0;
  /// The last norm and the output head.
  [[nodiscard]] virtual Tensor head(const Residual& out) const = 0;
  /// What the attention of a block keeps of a token.
  [[nodiscard]] virtual KvCacheOptions cache_options() const = 0;

 private:
  const char* name_;
  LanguageModelShape shape_;
};

}  // namespace trinix::nn
