#pragma once

#include <cstdint>
#include <string>

/// @file
/// The options of text generation.

namespace trinix::tools {

/// The options of `trinix sample`.
struct SampleConfig {
  std::string run = "out";  ///< folder of the run
  std::string prompt = "\n";
  std::int64_t tokens = 500;  ///< how many to generate
  double temperature = 0.8;   ///< divides the logits; 0 always takes the likeliest token
  std::int64_t top_k = 200;   ///< choose among this many likeliest tokens; 0: among all
  double top_p = 1;           ///< choose among the likeliest tokens whose probabilities reach this sum; 1: among all
  std::int64_t seed = 1337;
  std::string device = "cpu";
};

/// @throws ConfigError with one sentence about the first value that makes no sense
void validate(const SampleConfig& config);

}  // namespace trinix::tools
