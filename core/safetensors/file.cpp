#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/safetensors/file.h>

namespace trinix::safetensors {

namespace {

// Linux moves at most 0x7ffff000 bytes per call and macOS refuses more than 2^31 - 1.
constexpr std::uint64_t kLargestTransfer = std::uint64_t{1} << 30;

[[noreturn]] void fail_io(std::string_view action, const std::filesystem::path& path, int error) {
  detail::fail<IoError>("safetensors", "cannot {} '{}': {}", action, path.string(),
                        std::generic_category().message(error));
}

int open_retrying(const std::filesystem::path& path, int flags) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

int sync_retrying(int fd) {
  int result = -1;
  do {
#ifdef F_FULLFSYNC
    result = ::fcntl(fd, F_FULLFSYNC);  // fsync() there stops at the drive's own cache
    if (result != 0 && errno != EINTR) result = ::fsync(fd);
#else
    result = ::fsync(fd);
#endif
  } while (result != 0 && errno == EINTR);
  return result;
}

void sync_folder(const std::filesystem::path& folder) {
  const int fd = open_retrying(folder, O_RDONLY | O_DIRECTORY);
  if (fd < 0) fail_io("open folder", folder, errno);
  // Some file systems cannot sync a folder and say so with EINVAL; nothing more can be done there.
  const int error = sync_retrying(fd) != 0 && errno != EINVAL ? errno : 0;
  ::close(fd);
  if (error != 0) fail_io("sync folder", folder, error);
}

const char* kind_of(mode_t mode) {
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  if (S_ISSOCK(mode)) return "a socket";
  return "of an unknown kind";
}

#if defined(__APPLE__)
const timespec& write_time(const struct stat& info) { return info.st_mtimespec; }
#else
const timespec& write_time(const struct stat& info) { return info.st_mtim; }
#endif

}  // namespace

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  // Without O_NONBLOCK, opening a FIFO that nobody writes to never returns.
  fd_ = open_retrying(path_, O_RDONLY | O_NONBLOCK);
  if (fd_ < 0) fail_io("open", path_, errno);
  struct stat info {};
  int error = ::fstat(fd_, &info) != 0 ? errno : 0;
  if (error == 0 && S_ISDIR(info.st_mode)) error = EISDIR;
  const bool regular = S_ISREG(info.st_mode);
  if (error != 0 || !regular) {
    ::close(fd_);
    if (error != 0) fail_io("read", path_, error);
    detail::fail<IoError>("safetensors", "cannot read '{}': it is {}, not a regular file", path_.string(),
                          kind_of(info.st_mode));
  }
  size_ = static_cast<std::uint64_t>(info.st_size);
  seconds_ = write_time(info).tv_sec;
  nanoseconds_ = write_time(info).tv_nsec;
}

InputFile::~InputFile() { ::close(fd_); }

void InputFile::read(void* to, std::uint64_t count, std::uint64_t offset) const {
  auto* bytes = static_cast<char*>(to);
  std::uint64_t done = 0;
  while (done < count) {
    const auto wanted = static_cast<std::size_t>(std::min(count - done, kLargestTransfer));
    const ssize_t got = ::pread(fd_, bytes + done, wanted, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_io("read", path_, errno);
    if (got == 0) {
      detail::fail<IoError>("safetensors", "'{}' was cut short while it was open: it had {} bytes, now it ends at {}",
                            path_.string(), size_, offset + done);
    }
    done += static_cast<std::uint64_t>(got);
  }
}

void InputFile::check_unchanged() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) fail_io("read", path_, errno);
  if (static_cast<std::uint64_t>(info.st_size) != size_) {
    detail::fail<IoError>("safetensors",
                          "'{}' changed while it was open: it had {} bytes, now it has {}; open it again",
                          path_.string(), size_, static_cast<std::int64_t>(info.st_size));
  }
  if (write_time(info).tv_sec != seconds_ || write_time(info).tv_nsec != nanoseconds_) {
    detail::fail<IoError>("safetensors", "'{}' was written to while it was open; open it again", path_.string());
  }
}

ReplacementFile::ReplacementFile(std::filesystem::path path)
    : path_(std::move(path)), folder_(path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".")) {
  static std::atomic<unsigned> counter{0};
  // A killed process may have left a file of the same name behind: O_EXCL skips it rather than sharing it.
  for (int attempt = 0; attempt < 100 && fd_ < 0; ++attempt) {
    temporary_ = folder_ / (".safetensors-" + std::to_string(::getpid()) + "-" + std::to_string(counter++) + ".tmp");
    fd_ = open_retrying(temporary_, O_WRONLY | O_CREAT | O_EXCL);
    if (fd_ < 0 && errno != EEXIST) fail_io("create a file beside", path_, errno);
  }
  if (fd_ < 0) fail_io("create a file beside", path_, EEXIST);
}

ReplacementFile::~ReplacementFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void ReplacementFile::write(const void* data, std::uint64_t count) {
  const auto* bytes = static_cast<const char*>(data);
  while (count > 0) {
    const ssize_t put = ::write(fd_, bytes, static_cast<std::size_t>(std::min(count, kLargestTransfer)));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail_io("write", path_, put < 0 ? errno : EIO);
    bytes += put;
    count -= static_cast<std::uint64_t>(put);
  }
}

void ReplacementFile::commit() {
  if (sync_retrying(fd_) != 0) fail_io("sync", path_, errno);
  // After EINTR the descriptor is gone on Linux; closing again could close another thread's file.
  const int closed = ::close(std::exchange(fd_, -1));
  if (closed != 0 && errno != EINTR) fail_io("close", path_, errno);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_io("replace", path_, errno);
  temporary_.clear();
  sync_folder(folder_);
}

}  // namespace trinix::safetensors
