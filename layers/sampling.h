#pragma once

#include <cstdint>
#include <span>

#include <trinix/core/generator.h>

/// @file
/// Choosing the next token from a row of logits.

namespace trinix::nn {

struct SamplingOptions {
  double temperature = 1;  ///< logits are divided by it; 0 takes the most likely token
  std::int64_t top_k = 0;  ///< only the k most likely tokens; 0: all
  double top_p = 1;        ///< only the most likely tokens whose probabilities add up to p. Holtzman, arXiv 1904.09751
  /// @throws ConfigError for a negative or NaN temperature, a negative top_k, or top_p outside (0, 1].
  void validate() const;
};

/// Index of a token drawn from softmax(logits / temperature), restricted first to top_k, then to top_p. Takes one
/// number from the generator, none at temperature 0. Among equal logits the lower index counts as more likely.
/// @throws ConfigError for options that make no sense, no logits, or logits that are NaN or all -inf.
[[nodiscard]] std::int64_t sample_token(std::span<const float> logits, const SamplingOptions& options,
                                        Generator& generator);

}  // namespace trinix::nn
