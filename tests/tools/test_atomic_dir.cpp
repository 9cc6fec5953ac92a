#include "temp_folder.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <trinix/core/error.h>
#include <trinix/tools/lib/atomic_dir.h>

namespace trinix::tools {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void save(const fs::path& parent, const std::string& name, std::string_view text, const FileCalls& calls = {}) {
  AtomicDir folder(parent, name, {.calls = calls});
  folder.write("model", text);
  folder.write("trainer", text);
  folder.commit();
}

/// The id of a process that is no more.
pid_t dead_process() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  return child;
}

/// A small file system of its own; needs the right to mount.
class SmallDisk {
 public:
  explicit SmallDisk(const char* options) {
    mounted_ = ::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, options) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount(folder_.path().c_str());
  }
  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] const fs::path& path() const { return folder_.path(); }
  bool make_read_only() { return ::mount(nullptr, path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0; }

 private:
  TempFolder folder_;
  bool mounted_ = false;
};

TEST(AtomicDir, AppearsAtCommitWithAllItsFiles) {
  TempFolder folder;
  AtomicDir dir(folder / "run", "step-000100");
  dir.write("model", "weights");
  folder.add(fs::relative(dir.path() / "other", folder.path()).string(), "written by other code");
  EXPECT_FALSE(fs::exists(folder / "run/step-000100"));
  EXPECT_EQ(dir.commit(), folder / "run/step-000100");
  EXPECT_THAT(names_in(folder / "run"), ElementsAre("step-000100"));
  EXPECT_EQ(read_file(folder / "run/step-000100/model"), "weights");
  EXPECT_EQ(read_file(folder / "run/step-000100/other"), "written by other code");
}

TEST(AtomicDir, LeavesNothingWithoutCommit) {
  TempFolder folder;
  {
    AtomicDir dir(folder.path(), "a");
    dir.write("model", "x");
  }
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(AtomicDir, ReplacesAnEarlierFolderOfThatName) {
  TempFolder folder;
  save(folder.path(), "best", "old");
  save(folder.path(), "best", "new");
  EXPECT_THAT(names_in(folder.path()), ElementsAre("best"));
  EXPECT_EQ(read_file(folder / "best/model"), "new");
}

TEST(AtomicDir, KeepsTheEarlierFolderWhenAnyCallFails) {
  TempFolder folder;
  save(folder.path(), "best", "old");
  std::vector<FileCalls> faults(4);
  faults[0].write = [](int, const void*, std::size_t) -> ssize_t {
    errno = ENOSPC;
    return -1;
  };
  faults[1].sync = [](int) {
    errno = EIO;
    return -1;
  };
  faults[2].close = [](int fd) {
    ::close(fd);
    errno = EDQUOT;
    return -1;
  };
  faults[3].rename = [](const char*, const char*) {
    errno = EACCES;
    return -1;
  };
  for (const FileCalls& calls : faults) {
    EXPECT_THROW(save(folder.path(), "best", "new", calls), IoError);
    EXPECT_THAT(names_in(folder.path()), ElementsAre("best"));
    EXPECT_EQ(read_file(folder / "best/model"), "old");
  }
}

/// Ends the process at the nth system call, as a kill would, for every n until a save gets through.
int calls_until_kill = 0;
void count_down() {
  if (--calls_until_kill < 0) ::_exit(9);
}

TEST(AtomicDir, SurvivesAKillAtEveryCall) {
  TempFolder folder;
  save(folder.path(), "best", "old");
  FileCalls deadly;
  deadly.write = [](int fd, const void* data, std::size_t size) {
    count_down();
    return ::write(fd, data, std::min<std::size_t>(size, 1));
  };
  deadly.sync = [](int fd) {
    count_down();
    return ::fsync(fd);
  };
  deadly.close = [](int fd) {
    count_down();
    return ::close(fd);
  };
  deadly.rename = [](const char* from, const char* to) {
    count_down();
    return ::rename(from, to);
  };
  int kills = 0;
  for (bool done = false; !done; ++kills) {
    ASSERT_LT(kills, 200);
    const pid_t child = ::fork();
    if (child == 0) {
      calls_until_kill = kills;
      save(folder.path(), "best", "newer", deadly);
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    done = WEXITSTATUS(status) == 0;
    // Whole, whichever of the two it is.
    const std::string model = read_file(folder / "best/model");
    EXPECT_EQ(read_file(folder / "best/trainer"), model);
    EXPECT_TRUE(model == "old" || model == "newer") << model;
    EXPECT_TRUE(!done || model == "newer");
    remove_leftovers(folder.path());
    EXPECT_THAT(names_in(folder.path()), ElementsAre("best"));
  }
  EXPECT_GT(kills, 15);
}

TEST(AtomicDir, ReportsAFullDiskAndKeepsTheEarlierFolder) {
  SmallDisk disk("size=256k");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs needs root";
  save(disk.path(), "best", "old");
  const std::string big(1'000'000, 'x');
  EXPECT_THAT(error_of<IoError>([&] { save(disk.path(), "best", big); }),
              ::testing::AllOf(HasSubstr("cannot write"), HasSubstr("/model'"), HasSubstr("No space left on device")));
  EXPECT_THAT(names_in(disk.path()), ElementsAre("best"));
  EXPECT_EQ(read_file(disk.path() / "best/model"), "old");
  EXPECT_THAT(error_of<IoError>([&] { AtomicDir dir(disk.path(), "best", {.expected_bytes = 43'000'000}); }),
              ::testing::AllOf(HasSubstr("has 2"), HasSubstr("43.0 MB are needed")));
  save(disk.path(), "best", "small again");
  EXPECT_EQ(read_file(disk.path() / "best/model"), "small again");
}

TEST(AtomicDir, ReportsAReadOnlyFileSystem) {
  SmallDisk disk("size=256k");
  if (!disk.mounted() || !disk.make_read_only()) GTEST_SKIP() << "mounting a tmpfs needs root";
  EXPECT_THAT(error_of<IoError>([&] { AtomicDir dir(disk.path(), "best"); }), HasSubstr("Read-only file system"));
  EXPECT_THAT(error_of<IoError>([&] { AtomicDir dir(disk.path() / "run", "best"); }),
              HasSubstr("Read-only file system"));
}

TEST(AtomicDir, ReportsAFolderWithoutPermission) {
  TempFolder folder;
  fs::permissions(folder.path(),
                  fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  const pid_t child = ::fork();
  if (child == 0) {
    // Root may write everywhere, so become nobody.
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(2);
    const std::string message = error_of<IoError>([&] { AtomicDir dir(folder.path(), "best"); });
    ::_exit(message.find("Permission denied") == std::string::npos ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  fs::permissions(folder.path(), fs::perms::owner_all);
}

TEST(AtomicDir, ReportsAParentThatIsAFile) {
  TempFolder folder;
  folder.add("file", "x");
  EXPECT_THROW(AtomicDir(folder / "file", "best"), IoError);
}

TEST(Prune, RemovesTheOldestAndKeepsWhatIsNamed) {
  TempFolder folder;
  for (const char* name : {"step-000100", "step-000200", "step-000300", "step-000400", "other"}) {
    save(folder.path(), name, "x");
  }
  EXPECT_THAT(prune_folders(folder.path(), "step-", 2, {"step-000100"}), ElementsAre("step-000200"));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("other", "step-000100", "step-000300", "step-000400"));
  EXPECT_THAT(prune_folders(folder.path(), "step-", 5), IsEmpty());
}

TEST(Leftovers, OfDeadProcessesAreRemoved) {
  TempFolder folder;
  const std::string dead = std::to_string(dead_process());
  const std::string alive = std::to_string(::getppid());
  folder.add(".tmp-step-000100-" + dead + "/model", "half");
  folder.add(".tmp-loss.svg-" + dead, "half");
  folder.add(".tmp-step-000200-" + std::to_string(::getpid()) + "/model", "half");
  folder.add(".tmp-step-000300-" + alive + "/model", "half");
  folder.add(".tmp-notes", "not ours");
  folder.add("step-000001/model", "whole");
  EXPECT_EQ(remove_leftovers(folder.path()).size(), 3U);
  EXPECT_THAT(names_in(folder.path()), ElementsAre(".tmp-notes", ".tmp-step-000300-" + alive, "step-000001"));
  EXPECT_THAT(remove_leftovers(folder / "missing"), IsEmpty());
}

TEST(Leftovers, AFolderMovedAsideComesBack) {
  TempFolder folder;
  folder.add(".tmp-best.old-" + std::to_string(dead_process()) + "/model", "old");
  remove_leftovers(folder.path());
  EXPECT_EQ(read_file(folder / "best/model"), "old");
}

}  // namespace
}  // namespace trinix::tools
