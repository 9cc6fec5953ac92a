#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <system_error>
#include <unistd.h>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/atomic_dir.h>

namespace trinix::tools {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kTemporaryPrefix = ".tmp-";
constexpr std::string_view kAsideSuffix = ".old";

fs::path temporary_path(const fs::path& parent, const std::string& name) {
  return parent / (std::string(kTemporaryPrefix) + name + "-" + std::to_string(::getpid()));
}

/// The process id at the end of ".tmp-NAME-PID", or 0 for any other name.
long owner_of(const std::string& name) {
  const std::size_t dash = name.rfind('-');
  if (name.rfind(kTemporaryPrefix, 0) != 0 || dash == std::string::npos || dash < kTemporaryPrefix.size()) return 0;
  long pid = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + dash + 1, end, pid);
  return error == std::errc() && rest == end && pid > 0 ? pid : 0;
}

bool is_alive(long pid) { return pid != ::getpid() && (::kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH); }

/// 12.3 MB and the like.
std::string bytes_text(std::uint64_t bytes) {
  const char* units[] = {"bytes", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1000 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? detail::format("{} bytes", bytes) : detail::format("{:.1f} {}", value, units[unit]);
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail_io("save", "remove", path, error.value());
}

/// Swaps two folders in one step where the system can.
bool exchange(const fs::path& a, const fs::path& b) {
#ifdef RENAME_EXCHANGE
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
#else
  (void)a;
  (void)b;
  return false;
#endif
}

}  // namespace

AtomicDir::AtomicDir(fs::path parent, std::string name, AtomicDirOptions options)
    : parent_(std::move(parent)),
      name_(std::move(name)),
      options_(options),
      temporary_(temporary_path(parent_, name_)) {
  std::error_code error;
  fs::create_directories(parent_, error);
  if (error) fail_io("save", "create", parent_, error.value());
  require_free_space(parent_, options_.expected_bytes);
  // Left over by an earlier save of this process that failed, or by a dead process of the same id.
  remove_tree(temporary_);
  if (::mkdir(temporary_.c_str(), 0777) != 0) fail_io("save", "create", temporary_, errno);
}

AtomicDir::~AtomicDir() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void AtomicDir::write(const std::string& file, std::string_view bytes) {
  OutputFile out(temporary_ / file, OutputFile::Mode::create, options_.calls);
  out.write(bytes);
  out.sync();
  out.close();
}

fs::path AtomicDir::commit() {
  std::error_code error;
  fs::directory_iterator entries(temporary_, error);
  if (error) fail_io("save", "list", temporary_, error.value());
  for (const auto& entry : entries) {
    if (entry.is_regular_file(error)) sync_file(entry.path(), options_.calls);
  }
  sync_folder(temporary_, options_.calls);
  const fs::path final_path = parent_ / name_;
  move_into_place(final_path);
  committed_ = true;
  sync_folder(parent_, options_.calls);
  return final_path;
}

void AtomicDir::move_into_place(const fs::path& final_path) {
  if (options_.calls.rename(temporary_.c_str(), final_path.c_str()) == 0) return;
  if (errno != ENOTEMPTY && errno != EEXIST) fail_io("save", "move into place", final_path, errno);
  if (exchange(temporary_, final_path)) {
    remove_tree(temporary_);  // holds the earlier contents now
    return;
  }
  // Without the exchange there is an instant at which the name is free; the old folder lies beside it until the end.
  const fs::path aside = temporary_path(parent_, name_ + std::string(kAsideSuffix));
  remove_tree(aside);
  if (options_.calls.rename(final_path.c_str(), aside.c_str()) != 0) fail_io("save", "replace", final_path, errno);
  if (options_.calls.rename(temporary_.c_str(), final_path.c_str()) != 0) {
    const int cause = errno;
    options_.calls.rename(aside.c_str(), final_path.c_str());
    fail_io("save", "move into place", final_path, cause);
  }
  remove_tree(aside);
}

void require_free_space(const fs::path& folder, std::uint64_t bytes) {
  if (bytes == 0) return;
  struct statvfs info {};
  if (::statvfs(folder.c_str(), &info) != 0) fail_io("save", "ask for the free space of", folder, errno);
  const std::uint64_t available = static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  if (available < bytes) {
    detail::fail<IoError>("save", "'{}' has {} free, and {} are needed: make room or choose another folder",
                          folder.string(), bytes_text(available), bytes_text(bytes));
  }
}

void remove_folder(const fs::path& path) {
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const fs::path aside = temporary_path(parent, path.filename().string() + ".gone");
  remove_tree(aside);
  if (std::rename(path.c_str(), aside.c_str()) != 0) {
    if (errno == ENOENT) return;
    fail_io("save", "remove", path, errno);
  }
  remove_tree(aside);
}

std::vector<std::string> prune_folders(const fs::path& parent, std::string_view prefix, std::size_t keep,
                                       const std::vector<std::string>& always) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(parent, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    const std::string name = it->path().filename().string();
    if (name.rfind(prefix, 0) == 0 && it->is_directory(ignored)) names.push_back(name);
  }
  if (error) fail_io("save", "list", parent, error.value());
  std::sort(names.begin(), names.end());
  names.resize(names.size() - std::min(keep, names.size()));
  std::erase_if(names, [&](const auto& name) { return std::find(always.begin(), always.end(), name) != always.end(); });
  for (const auto& name : names) remove_folder(parent / name);
  return names;
}

std::vector<std::string> remove_leftovers(const fs::path& parent) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(parent, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const long pid = owner_of(name);
    if (pid != 0 && !is_alive(pid)) names.push_back(name);
  }
  if (error && error != std::errc::no_such_file_or_directory) fail_io("save", "list", parent, error.value());
  for (const auto& name : names) {
    // A crash between the two renames of move_into_place() left the old folder under this name alone.
    const std::string middle = name.substr(kTemporaryPrefix.size(), name.rfind('-') - kTemporaryPrefix.size());
    if (middle.size() > kAsideSuffix.size() && middle.ends_with(kAsideSuffix)) {
      const fs::path original = parent / middle.substr(0, middle.size() - kAsideSuffix.size());
      if (!fs::exists(original) && std::rename((parent / name).c_str(), original.c_str()) == 0) continue;
    }
    remove_tree(parent / name);
  }
  return names;
}

}  // namespace trinix::tools
