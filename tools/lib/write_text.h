#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include <trinix/tools/lib/sample_config.h>

/// @file
/// Writing text with the model of a run: what `trinix sample` does.

namespace trinix::tools {

/// Loads the best model of the run (the newest where there was no evaluation) and continues the prompt. `on_text`
/// receives whole characters as soon as they are known, the prompt not included; returning false ends the text.
/// Returns all that was written.
/// @throws IoError, FormatError, ConfigError; TokenizerError for a prompt that the vocabulary does not cover
std::string write_text(const SampleConfig& config, const std::function<bool(std::string_view)>& on_text = {});

}  // namespace trinix::tools
