#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <sys/types.h>

/// @file
/// Writing files so that a failure is noticed: every return value is checked, close included. POSIX.

namespace trinix::tools {

/// The system calls that writing goes through. A test replaces one to make it fail.
struct FileCalls {
  FileCalls();

  ssize_t (*write)(int fd, const void* data, std::size_t size);
  int (*sync)(int fd);  ///< reaches the medium: fsync, or F_FULLFSYNC where fsync stops at the drive's cache
  int (*close)(int fd);
  int (*rename)(const char* from, const char* to);
};

/// A file open for writing. Nothing is buffered here, so what write() has returned from has reached the kernel.
class OutputFile {
 public:
  enum class Mode {
    create,  ///< make it, or empty it
    append   ///< make it, or write after its end
  };

  /// @throws IoError with the system's text; so do all the others.
  explicit OutputFile(std::filesystem::path path, Mode mode = Mode::create, const FileCalls& calls = {});
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// Writes all of it, through short writes and interruptions.
  void write(std::string_view bytes);
  /// Waits until it lies on the medium.
  void sync();
  /// Closes it. Some file systems report a failed write only now.
  void close();
  /// Cuts the file to that length: used to take back a line of which only a part fitted on the disk.
  void truncate(std::size_t size);

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  FileCalls calls_;
  int fd_ = -1;
  std::size_t size_ = 0;
};

/// Makes the file's contents durable. @throws IoError
void sync_file(const std::filesystem::path& path, const FileCalls& calls = {});

/// Makes the entries of a folder (creations, renames) durable. @throws IoError
void sync_folder(const std::filesystem::path& path, const FileCalls& calls = {});

/// Replaces the file at once: a reader, or a crash, sees the old contents or the new and nothing between.
/// @param durable also wait for the medium; without it only other processes are protected, not a power cut.
/// @throws IoError, and then the old file is as it was
void replace_file(const std::filesystem::path& path, std::string_view bytes, bool durable = true,
                  const FileCalls& calls = {});

/// The whole of a regular file. @throws IoError
[[nodiscard]] std::string read_file(const std::filesystem::path& path);

/// Copies a file's contents, replacing those of `to`. (std::filesystem's form does it through C++ streams, which would
/// add 0.6 MB to a static program.) @throws IoError
void copy_contents(const std::filesystem::path& from, const std::filesystem::path& to);

/// @throws IoError "[op] cannot ACTION 'PATH': TEXT OF ERROR"
[[noreturn]] void fail_io(std::string_view op, std::string_view action, const std::filesystem::path& path, int error);

}  // namespace trinix::tools
