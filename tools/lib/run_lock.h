#pragma once

#include <filesystem>

/// @file
/// One run at a time in a folder.

namespace trinix::tools {

/// Holds `FOLDER/.lock` for this process; the system lets go of it when the process ends, however it ends. POSIX.
class RunLock {
 public:
  /// Makes the folder where it is missing.
  /// @throws IoError naming the holder's process id when another process has it, or with the system's text
  explicit RunLock(const std::filesystem::path& folder);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace trinix::tools
