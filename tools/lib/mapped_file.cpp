#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/file_io.h>
#include <trinix/tools/lib/mapped_file.h>

namespace trinix::tools {

MappedFile::MappedFile(const std::filesystem::path& path) {
  // Asked before opening: opening a pipe would wait for somebody to write.
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) fail_io("load", "open", path, errno);
  if (S_ISDIR(info.st_mode)) fail_io("load", "read", path, EISDIR);
  if (!S_ISREG(info.st_mode)) detail::fail<IoError>("load", "'{}' is not a regular file", path.string());
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail_io("load", "open", path, errno);
  // Asked again of the open file, which may have been replaced in between.
  const bool known = ::fstat(fd, &info) == 0;
  const auto size = known ? static_cast<std::size_t>(info.st_size) : 0;
  void* data = nullptr;
  if (size > 0) data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (!known || data == MAP_FAILED) fail_io("load", "map", path, error);
  data_ = static_cast<const char*>(data);
  size_ = size;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace trinix::tools
