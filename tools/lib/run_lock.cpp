#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/file_io.h>
#include <trinix/tools/lib/run_lock.h>

namespace trinix::tools {

namespace {

/// What the holder wrote into the file, digits only; "?" while it has not yet.
std::string holder_of(int fd) {
  char text[32] = {};
  const ssize_t got = ::pread(fd, text, sizeof text - 1, 0);
  std::string pid;
  for (ssize_t i = 0; i < got && text[i] >= '0' && text[i] <= '9'; ++i) pid += text[i];
  return pid.empty() ? "?" : pid;
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail_io("lock", "create", folder, error.value());
  const std::filesystem::path path = folder / ".lock";
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_io("lock", "open", path, errno);
  int result = -1;
  do {
    result = ::flock(fd_, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result != 0) {
    const int cause = errno;
    const std::string holder = holder_of(fd_);
    ::close(fd_);
    if (cause != EWOULDBLOCK) fail_io("lock", "lock", path, cause);
    detail::fail<IoError>("lock", "'{}' is in use by another run (process {}): wait for it or choose another folder",
                          folder.string(), holder);
  }
  // The id only serves the message above; a full disk must not stand in the way of the lock itself.
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd_, 0) == 0) {
    [[maybe_unused]] const ssize_t written = ::pwrite(fd_, pid.data(), pid.size(), 0);
  }
}

// The file stays: removing it would let a third process lock a new file while a second still waits on the old one.
RunLock::~RunLock() { ::close(fd_); }

}  // namespace trinix::tools
