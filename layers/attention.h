#pragma once

#include <memory>
#include <optional>

#include <trinix/core/generator.h>
#include <trinix/core/kernel.h>
#include <trinix/layers/dropout.h>
#include <trinix/layers/kv_cache.h>
#include <trinix/layers/linear.h>
#include <trinix/layers/module.h>

/// @file
/// Attention layers.

namespace trinix::nn {

struct CausalSelfAttentionOptions {
  std::int64_t width = 0;  ///< of the model; a multiple of heads
  std::int64_t heads = 0;
  double dropout = 0;  ///< on the attention probabilities, and on the output
  bool bias = true;
  std::optional<double> init_std = {};         ///< of c_attn, see LinearOptions
  std::optional<double> output_init_std = {};  ///< of c_proj
  TensorOptions tensor = {};
  Generator* generator = nullptr;
  KernelChoice kernel = {};
};

/// Multi-head self-attention in which a token sees itself and those before it, as in GPT-2. Queries, keys and values
/// come from one product. Vaswani et al., arXiv 1706.03762.
///
/// Parameters: c_attn (3 width, width), rows in the order q, k, v; c_proj (width, width); a bias each.
class CausalSelfAttention : public Module {
 public:
  /// @throws ConfigError unless sizes are positive and heads divide width.
  explicit CausalSelfAttention(const CausalSelfAttentionOptions& options);

  /// x (B, T, width) -> (B, T, width). With a cache, x holds the tokens behind the held ones, and `layer` says which
  /// of the cache's layers this is; see KvCache for who advances it.
  [[nodiscard]] Tensor forward(const Tensor& x, KvCache* cache = nullptr, std::int64_t layer = 0) const;

 private:
  CausalSelfAttentionOptions options_;
  std::shared_ptr<Linear> c_attn_;
  std::shared_ptr<Linear> c_proj_;
  std::shared_ptr<Dropout> resid_dropout_;
};

}  // namespace trinix::nn
