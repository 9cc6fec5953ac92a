#pragma once

#include "cli/command_line.h"

/// @file
/// The program's subcommands, one per file.

namespace trinix::cli {

[[nodiscard]] Command train_command();
[[nodiscard]] Command sample_command();
[[nodiscard]] Command info_command();
[[nodiscard]] Command kernels_command();

/// What `trinix --version` prints.
[[nodiscard]] std::string version_text();

}  // namespace trinix::cli
