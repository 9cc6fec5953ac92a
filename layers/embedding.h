#pragma once

#include <optional>

#include <trinix/core/generator.h>
#include <trinix/layers/module.h>

/// @file
/// A table of vectors, looked up by number.

namespace trinix::nn {

struct EmbeddingOptions {
  std::int64_t num_embeddings = 0;
  std::int64_t embedding_dim = 0;
  double init_std = 1;  ///< rows from N(0, init_std^2)
  /// A row that stands for nothing: it starts as zeros and gets no gradient, so it stays what it is.
  std::optional<std::int64_t> padding_idx = {};
  TensorOptions tensor = {};
  Generator* generator = nullptr;
};

/// Indices (...), i64 or i32 -> rows (..., embedding_dim). Parameter: weight (num_embeddings, embedding_dim).
class Embedding : public Layer {
 public:
  /// @throws ConfigError unless both sizes are positive and padding_idx is a row of the table.
  explicit Embedding(const EmbeddingOptions& options);

  /// @throws IndexError naming an index outside the table, DtypeError.
  [[nodiscard]] Tensor forward(const Tensor& indices) const override;

  [[nodiscard]] const Tensor& weight() const { return weight_; }

 private:
  Tensor weight_;
  std::optional<std::int64_t> padding_idx_;
};

}  // namespace trinix::nn
