#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <trinix/core/generator.h>
#include <trinix/layers/language_model.h>
#include <trinix/tools/lib/config.h>

/// @file
/// From the options of a run to its model.

namespace trinix::tools {

/// The model that the options describe. @param generator for initialisation and dropout, must outlive the model; null:
/// default_generator() @throws ConfigError
[[nodiscard]] std::unique_ptr<nn::LanguageModel> make_model(const TrainConfig& config, std::int64_t vocab_size,
                                                            Generator* generator = nullptr);

/// "gpt", or "llama with gqa (2 heads of keys), rope, window 64": what differs from the usual is named.
[[nodiscard]] std::string describe_model(const TrainConfig& config);

}  // namespace trinix::tools
