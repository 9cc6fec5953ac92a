#include "temp_folder.h"

#include <csignal>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <trinix/core/error.h>
#include <trinix/tools/lib/file_io.h>

namespace trinix::tools {
namespace {

using test::error_of;
using test::TempFolder;
using ::testing::HasSubstr;

/// Writes at most 7 bytes a call, and is interrupted every other time.
ssize_t reluctant_write(int fd, const void* data, std::size_t size) {
  static int calls = 0;
  if (++calls % 2 == 0) {
    errno = EINTR;
    return -1;
  }
  return ::write(fd, data, std::min<std::size_t>(size, 7));
}

int interrupted_once(int fd) {
  static int calls = 0;
  if (++calls == 1) {
    errno = EINTR;
    return -1;
  }
  return ::fsync(fd);
}

TEST(OutputFile, GoesThroughShortWritesAndInterruptions) {
  TempFolder folder;
  FileCalls calls;
  calls.write = &reluctant_write;
  calls.sync = &interrupted_once;
  const std::string text(1000, 'x');
  OutputFile file(folder / "a", OutputFile::Mode::create, calls);
  file.write(text);
  file.sync();
  file.close();
  EXPECT_EQ(read_file(folder / "a"), text);
  EXPECT_EQ(file.size(), text.size());
}

TEST(OutputFile, AppendsAndTakesBack) {
  TempFolder folder;
  folder.add("a", "one\n");
  OutputFile file(folder / "a", OutputFile::Mode::append);
  EXPECT_EQ(file.size(), 4U);
  file.write("two\nthr");
  file.truncate(8);
  file.write("three\n");
  file.close();
  EXPECT_EQ(read_file(folder / "a"), "one\ntwo\nthree\n");
}

TEST(OutputFile, ReportsAFullDevice) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  OutputFile file("/dev/full");
  EXPECT_EQ(error_of<IoError>([&] { file.write("x"); }), "[save] cannot write '/dev/full': No space left on device");
}

TEST(OutputFile, ReportsAFailingClose) {
  TempFolder folder;
  FileCalls calls;
  calls.close = [](int fd) {
    ::close(fd);
    errno = EIO;
    return -1;
  };
  OutputFile file(folder / "a", OutputFile::Mode::create, calls);
  file.write("x");
  EXPECT_THAT(error_of<IoError>([&] { file.close(); }), HasSubstr("cannot close"));
  EXPECT_NO_THROW(file.close());
}

TEST(OutputFile, NamesTheFileThatCannotBeOpened) {
  EXPECT_EQ(error_of<IoError>([] { OutputFile file("/nowhere/at/all"); }),
            "[save] cannot open '/nowhere/at/all': No such file or directory");
}

TEST(ReplaceFile, KeepsTheOldContentsWhenAnythingFails) {
  TempFolder folder;
  folder.add("a", "old");
  FileCalls no_room;
  no_room.write = [](int, const void*, std::size_t) -> ssize_t {
    errno = ENOSPC;
    return -1;
  };
  FileCalls no_sync;
  no_sync.sync = [](int) {
    errno = EIO;
    return -1;
  };
  FileCalls no_rename;
  no_rename.rename = [](const char*, const char*) {
    errno = EACCES;
    return -1;
  };
  for (const FileCalls& calls : {no_room, no_sync, no_rename}) {
    EXPECT_THROW(replace_file(folder / "a", "new", true, calls), IoError);
    EXPECT_EQ(read_file(folder / "a"), "old");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1) << "a temporary file was left";
  }
  replace_file(folder / "a", "new");
  EXPECT_EQ(read_file(folder / "a"), "new");
}

TEST(ReplaceFile, SurvivesALimitOnTheFileSize) {
  TempFolder folder;
  folder.add("a", "old");
  struct rlimit before {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit tight = before;
  tight.rlim_cur = 4096;
  ::setrlimit(RLIMIT_FSIZE, &tight);
  const std::string message = error_of<IoError>([&] { replace_file(folder / "a", std::string(100'000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, previous);
  EXPECT_THAT(message, HasSubstr("File too large"));
  EXPECT_EQ(read_file(folder / "a"), "old");
}

TEST(CopyContents, CopiesFilesOfEverySizeAndSaysWhatFailed) {
  TempFolder folder;
  for (const std::size_t size : {0, 1, (1 << 20) - 1, 1 << 20, (1 << 21) + 3}) {
    std::string text(size, 'x');
    for (std::size_t i = 0; i < size; i += 97) text[i] = static_cast<char>(i);
    const auto from = folder.add("from", text);
    folder.add("to", "what was there before, and is longer than some");
    copy_contents(from, folder / "to");
    EXPECT_EQ(read_file(folder / "to"), text);
  }
  EXPECT_THAT(error_of<IoError>([&] { copy_contents(folder / "nowhere", folder / "to"); }), HasSubstr("cannot open"));
  EXPECT_THAT(error_of<IoError>([&] { copy_contents(folder / "from", folder / "no/to"); }), HasSubstr("cannot open"));
}

TEST(ReadFile, RefusesWhatIsNoRegularFile) {
  TempFolder folder;
  EXPECT_THAT(error_of<IoError>([&] { (void)read_file(folder.path()); }), HasSubstr("Is a directory"));
  EXPECT_THAT(error_of<IoError>([&] { (void)read_file(folder / "missing"); }), HasSubstr("No such file or directory"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of<IoError>([&] { (void)read_file(folder / "pipe"); }), HasSubstr("not a regular file"));
  EXPECT_EQ(read_file(folder.add("empty", "")), "");
}

}  // namespace
}  // namespace trinix::tools
