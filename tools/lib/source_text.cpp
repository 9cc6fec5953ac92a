#include <algorithm>
#include <array>
#include <system_error>
#include <vector>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/file_io.h>
#include <trinix/tools/lib/source_text.h>

namespace trinix::tools {

namespace fs = std::filesystem;

namespace {

bool is_source(const fs::path& path) {
  static constexpr std::array<std::string_view, 5> endings = {".h", ".cpp", ".cu", ".cuh", ".md"};
  return std::find(endings.begin(), endings.end(), path.extension().string()) != endings.end();
}

bool is_skipped(const fs::path& folder) {
  const std::string name = folder.filename().string();
  return name.front() == '.' || name.rfind("build", 0) == 0;
}

}  // namespace

fs::path source_folder() { return TRINIX_SOURCE_DIR; }

SourceText read_source_text(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored)) {
      if (is_skipped(it->path())) it.disable_recursion_pending();
    } else if (is_source(it->path()) && it->is_regular_file(ignored)) {
      paths.push_back(it->path());
    }
  }
  if (paths.empty()) {
    detail::fail<IoError>("data", "the source text to train on is not there ('{}'): give a text with --data FILE",
                          folder.string());
  }
  // The order of a folder's entries differs between machines; the text must not.
  std::sort(paths.begin(), paths.end(), [&](const auto& a, const auto& b) {
    return a.lexically_relative(folder).generic_string() < b.lexically_relative(folder).generic_string();
  });
  SourceText source;
  for (const auto& path : paths) source.text += read_file(path);
  source.files = static_cast<int>(paths.size());
  return source;
}

}  // namespace trinix::tools
