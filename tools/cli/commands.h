#pragma once

#include <CLI/CLI.hpp>
#include <functional>

/// @file
/// The program's subcommands, one per file. Each adds itself to the program; when its flags were parsed and checked, it
/// stores in `run` what shall be done. The library never sees the parser.

namespace trinix::cli {

/// @returns the exit code
using Run = std::function<int()>;

void add_train(CLI::App& program, Run& run);
void add_sample(CLI::App& program, Run& run);
void add_info(CLI::App& program, Run& run);
void add_kernels(CLI::App& program, Run& run);

/// What `trinix --version` prints.
[[nodiscard]] std::string version_text();

}  // namespace trinix::cli
