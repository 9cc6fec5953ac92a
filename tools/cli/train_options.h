#pragma once

#include "cli/command_line.h"

#include <trinix/tools/lib/config.h>

/// @file
/// The flags of `trinix train`, made from the table of options. Values stay text until read_train_options(), so that
/// flags, TOML and JSON go through one strict reader and give the same errors.

namespace trinix::cli {

/// Adds one flag per option, and --config.
void add_train_options(Command& command);

/// Preset, file and flags in that order of precedence. @throws ConfigError, FormatError, IoError
[[nodiscard]] tools::TrainConfig read_train_options(const Command& command);

}  // namespace trinix::cli
