#pragma once

#include <functional>
#include <optional>
#include <vector>

#include <trinix/layers/language_model.h>
#include <trinix/layers/sampling.h>

/// @file
/// Continuing a text.

namespace trinix::nn {

struct GenerateOptions {
  std::int64_t max_new_tokens = 100;
  SamplingOptions sampling = {};
  Generator* generator = nullptr;               ///< default_generator() when null
  std::optional<std::int64_t> stop_token = {};  ///< ends the text; it is still part of the result
  bool use_cache = true;                        ///< false computes every token from scratch, to check the cache against
  /// Called with every new token at once, for streaming; returning false ends the text.
  std::function<bool(std::int64_t)> on_token = {};
};

/// The new tokens that follow `prompt`, without it. Dropout is off meanwhile, and nothing is recorded. Beyond
/// block_size tokens the model sees the last block_size of them; since positions are absolute, each then costs a full
/// forward.
/// @throws ConfigError for an empty prompt; IndexError for a token outside the vocabulary.
[[nodiscard]] std::vector<std::int64_t> generate(LanguageModel& model, const std::vector<std::int64_t>& prompt,
                                                 const GenerateOptions& options = {});

}  // namespace trinix::nn
