#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

/// @file
/// A file seen as memory. POSIX.

namespace trinix::tools {

/// A regular file mapped read-only. Pages are read when they are touched, so a file larger than memory is fine.
/// The file must not be shortened while it is mapped: the system answers a touch beyond its end with SIGBUS.
class MappedFile {
 public:
  MappedFile() = default;
  /// @throws IoError with the system's text; for a folder, a pipe or a device too
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  [[nodiscard]] std::string_view bytes() const { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace trinix::tools
