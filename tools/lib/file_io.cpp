#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/file_io.h>

namespace trinix::tools {

namespace {

int sync_to_medium(int fd) {
#ifdef F_FULLFSYNC
  if (::fcntl(fd, F_FULLFSYNC) == 0) return 0;
#endif
  return ::fsync(fd);
}

int open_retrying(const std::filesystem::path& path, int flags, mode_t mode = 0666) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

/// Syncs an open descriptor and closes it whatever happens.
void sync_and_close(int fd, const std::filesystem::path& path, const FileCalls& calls, bool is_folder) {
  int result = -1;
  do {
    result = calls.sync(fd);
  } while (result != 0 && errno == EINTR);
  // Some file systems cannot sync a folder and say so with EINVAL; nothing more can be done there.
  const int error = result != 0 && !(is_folder && errno == EINVAL) ? errno : 0;
  calls.close(fd);
  if (error != 0) fail_io("save", "sync", path, error);
}

/// An open file's next bytes, through interruptions. @returns how many, 0 at its end
std::size_t read_some(int fd, char* to, std::size_t size, const std::filesystem::path& path) {
  for (;;) {
    const ssize_t got = ::read(fd, to, size);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) fail_io("load", "read", path, errno);
  }
}

class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path) : fd(open_retrying(path, O_RDONLY)) {
    if (fd < 0) fail_io("load", "open", path, errno);
  }
  ~InputFile() { ::close(fd); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const int fd;
};

/// Removes the file unless released.
class RemoveOnFailure {
 public:
  explicit RemoveOnFailure(std::filesystem::path path) : path_(std::move(path)) {}
  ~RemoveOnFailure() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove(path_, ignored);
  }
  void release() { path_.clear(); }

 private:
  std::filesystem::path path_;
};

}  // namespace

FileCalls::FileCalls() : write(&::write), sync(&sync_to_medium), close(&::close), rename(&std::rename) {}

void fail_io(std::string_view op, std::string_view action, const std::filesystem::path& path, int error) {
  detail::fail<IoError>(op, "cannot {} '{}': {}", action, path.string(), std::generic_category().message(error));
}

OutputFile::OutputFile(std::filesystem::path path, Mode mode, const FileCalls& calls)
    : path_(std::move(path)), calls_(calls) {
  // Always at the end, also after truncate().
  fd_ = open_retrying(path_, O_WRONLY | O_CREAT | O_APPEND | (mode == Mode::create ? O_TRUNC : 0));
  if (fd_ < 0) fail_io("save", "open", path_, errno);
  struct stat info {};
  if (::fstat(fd_, &info) == 0 && S_ISREG(info.st_mode)) size_ = static_cast<std::size_t>(info.st_size);
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) calls_.close(fd_);
}

void OutputFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = calls_.write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_io("save", "write", path_, errno);
    if (written == 0) fail_io("save", "write", path_, EIO);
    bytes.remove_prefix(static_cast<std::size_t>(written));
    size_ += static_cast<std::size_t>(written);
  }
}

void OutputFile::sync() {
  while (calls_.sync(fd_) != 0) {
    if (errno != EINTR) fail_io("save", "sync", path_, errno);
  }
}

void OutputFile::close() {
  if (fd_ < 0) return;
  // After EINTR the descriptor is gone on Linux; closing again could close another thread's file.
  const int fd = fd_;
  fd_ = -1;
  if (calls_.close(fd) != 0 && errno != EINTR) fail_io("save", "close", path_, errno);
}

void OutputFile::truncate(std::size_t size) {
  int result = -1;
  do {
    result = ::ftruncate(fd_, static_cast<off_t>(size));
  } while (result != 0 && errno == EINTR);
  if (result != 0) fail_io("save", "shorten", path_, errno);
  size_ = size;
}

void sync_file(const std::filesystem::path& path, const FileCalls& calls) {
  const int fd = open_retrying(path, O_RDONLY);
  if (fd < 0) fail_io("save", "open", path, errno);
  sync_and_close(fd, path, calls, false);
}

void sync_folder(const std::filesystem::path& path, const FileCalls& calls) {
  const int fd = open_retrying(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) fail_io("save", "open", path, errno);
  sync_and_close(fd, path, calls, true);
}

void replace_file(const std::filesystem::path& path, std::string_view bytes, bool durable, const FileCalls& calls) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  const std::filesystem::path temporary =
      folder / (".tmp-" + path.filename().string() + "-" + std::to_string(::getpid()));
  RemoveOnFailure cleaner(temporary);
  OutputFile file(temporary, OutputFile::Mode::create, calls);
  file.write(bytes);
  if (durable) file.sync();
  file.close();
  if (calls.rename(temporary.c_str(), path.c_str()) != 0) fail_io("save", "replace", path, errno);
  cleaner.release();
  if (durable) sync_folder(folder, calls);
}

std::string read_file(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) fail_io("load", "open", path, errno);
  if (S_ISDIR(info.st_mode)) fail_io("load", "read", path, EISDIR);
  if (!S_ISREG(info.st_mode)) detail::fail<IoError>("load", "'{}' is not a regular file", path.string());
  const InputFile file(path);
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t filled = 0;
  for (;;) {
    if (filled == text.size()) text.resize(text.size() + 4096);
    const std::size_t got = read_some(file.fd, text.data() + filled, text.size() - filled, path);
    if (got == 0) break;
    filled += got;
  }
  text.resize(filled);
  return text;
}

void copy_contents(const std::filesystem::path& from, const std::filesystem::path& to) {
  const InputFile input(from);
  OutputFile output(to);
  std::string buffer(1 << 20, '\0');
  while (const std::size_t got = read_some(input.fd, buffer.data(), buffer.size(), from)) {
    output.write(std::string_view(buffer).substr(0, got));
  }
  output.close();
}

}  // namespace trinix::tools
