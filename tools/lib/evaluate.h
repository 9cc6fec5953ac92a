#pragma once

#include <cstdint>

#include <trinix/layers/language_model.h>
#include <trinix/tools/lib/dataset.h>

/// @file
/// The loss of a model over a part of the data.

namespace trinix::tools {

/// How the loss of a part of the data is estimated.
struct EvaluateOptions {
  std::int64_t rows = 12;
  std::int64_t block = 64;
  std::int64_t iters = 20;  ///< random batches; 0: the whole part, every token once
  std::uint64_t seed = 0;
};

/// Mean cross-entropy in nats per token, dropout off, nothing recorded. The losses are added up on the model's device
/// in f64 and read once, at the end.
[[nodiscard]] double evaluate(nn::LanguageModel& model, const DataSet& data, Split split,
                              const EvaluateOptions& options);

}  // namespace trinix::tools
