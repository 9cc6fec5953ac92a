#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include <trinix/tools/lib/config.h>

/// @file
/// The flags of `trinix train`, made from the table of options.

namespace trinix::cli {

/// Adds one flag per option to the command and keeps what was given. Values stay text until config() reads them, so
/// that flags, TOML and JSON go through one strict reader and give the same errors.
class TrainOptions {
 public:
  explicit TrainOptions(CLI::App& command);

  /// Preset, file and flags in that order of precedence. @throws ConfigError, FormatError, IoError
  [[nodiscard]] tools::TrainConfig config() const;

 private:
  CLI::App& command_;
  std::map<std::string, std::string> values_;
  std::string file_;
};

}  // namespace trinix::cli
