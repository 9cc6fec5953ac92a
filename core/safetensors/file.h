#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

/// @file
/// The system calls under the reader and the writer, every result of which is checked. POSIX. Private to
/// core/safetensors.

namespace trinix::safetensors {

/// A regular file open for reading, and its size when it was opened. All functions @throw IoError.
class InputFile {
 public:
  explicit InputFile(std::filesystem::path path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// Fills `to` with the bytes from `offset`, which must lie inside the size. An end of file before that is an error.
  void read(void* to, std::uint64_t count, std::uint64_t offset) const;
  /// @throws IoError when the size or the time of the last write differs from what it was when the file was opened.
  void check_unchanged() const;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
  std::int64_t seconds_ = 0;
  std::int64_t nanoseconds_ = 0;
};

/// A file that takes the place of `path` when commit() is called; until then, and after any error, nothing has
/// happened there. All functions but the destructor @throw IoError.
class ReplacementFile {
 public:
  explicit ReplacementFile(std::filesystem::path path);
  ~ReplacementFile();
  ReplacementFile(const ReplacementFile&) = delete;
  ReplacementFile& operator=(const ReplacementFile&) = delete;

  void write(const void* data, std::uint64_t count);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  /// Waits for the medium, renames, and waits for the folder.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path folder_;
  std::filesystem::path temporary_;
  int fd_ = -1;
};

}  // namespace trinix::safetensors
