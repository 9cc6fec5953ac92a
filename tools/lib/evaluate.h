#pragma once

#include <cstdint>

#include <trinix/layers/gpt.h>
#include <trinix/tools/lib/dataset.h>

/// @file
/// Batches as tensors, and the loss of a model over a part of the data.

namespace trinix::tools {

/// Inputs and targets, (rows, block) of i32.
struct Batch {
  Tensor inputs;
  Tensor targets;
};

/// Rows drawn at random under a seed; `position` counts rows.
[[nodiscard]] Batch random_batch(const DataSet& data, Split split, std::int64_t rows, std::int64_t block,
                                 std::uint64_t seed, std::uint64_t position, Device device);

/// How the loss of a part of the data is estimated.
struct EvaluateOptions {
  std::int64_t rows = 12;
  std::int64_t block = 64;
  std::int64_t iters = 20;  ///< random batches; 0: the whole part, every token once
  std::uint64_t seed = 0;
};

/// Mean cross-entropy in nats per token, dropout off, nothing recorded.
[[nodiscard]] double evaluate(nn::Gpt& model, const DataSet& data, Split split, const EvaluateOptions& options);

}  // namespace trinix::tools
