#pragma once

#include <filesystem>
#include <string>

/// @file
/// A text that is always at hand: this repository's own source.

namespace trinix::tools {

struct SourceText {
  std::string text;
  int files = 0;
};

/// The folder this library was built from. It may be gone by now.
[[nodiscard]] std::filesystem::path source_folder();

/// All .h, .cpp, .cu, .cuh and .md files below the folder, in order of their path, one after the other. Hidden folders
/// and `build` are left out. @throws IoError when the folder is gone or holds no such file
[[nodiscard]] SourceText read_source_text(const std::filesystem::path& folder = source_folder());

}  // namespace trinix::tools
