#include "temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <optional>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <trinix/core/error.h>
#include <trinix/tools/lib/run_lock.h>

namespace trinix::tools {
namespace {

using test::error_of;
using test::TempFolder;

TEST(RunLock, NamesTheProcessThatHoldsIt) {
  TempFolder folder;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    RunLock lock(folder / "run");
    if (::write(ready[1], "x", 1) == 1) ::pause();
    ::_exit(1);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_EQ(error_of<IoError>([&] { RunLock lock(folder / "run"); }),
            "[lock] '" + (folder / "run").string() + "' is in use by another run (process " + std::to_string(child) +
                "): wait for it or choose another folder");
  // However the holder ends, the lock is free then.
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_NO_THROW(RunLock(folder / "run"));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(RunLock, IsFreeAgainAfterItsScope) {
  TempFolder folder;
  std::optional<RunLock> lock(std::in_place, folder.path());
  EXPECT_THROW(RunLock(folder.path()), IoError);
  lock.reset();
  EXPECT_NO_THROW(RunLock(folder.path()));
}

TEST(RunLock, ReportsAFolderThatCannotBe) {
  TempFolder folder;
  folder.add("file", "x");
  EXPECT_THAT(error_of<IoError>([&] { RunLock lock(folder / "file"); }), ::testing::HasSubstr("file"));
}

}  // namespace
}  // namespace trinix::tools
