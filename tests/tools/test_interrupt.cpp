#include <csignal>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <trinix/core/error.h>
#include <trinix/tools/lib/interrupt.h>

namespace trinix::tools {
namespace {

/// Runs the body in a process of its own and returns how it ended, as waitpid tells it.
template <class F>
int status_of(F&& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

/// Whoever runs the tests in the background may have them ignore Ctrl-C, and the programs that they start inherit that.
[[maybe_unused]] const auto ignored_by_the_shell = std::signal(SIGINT, SIG_DFL);

TEST(Interrupt, FirstSignalSetsAFlagOnly) {
  for (const int number : {SIGINT, SIGTERM}) {
    InterruptGuard guard;
    EXPECT_FALSE(guard.requested());
    ::raise(number);
    EXPECT_TRUE(guard.requested());
    EXPECT_EQ(guard.signal_number(), number);
    EXPECT_EQ(guard.exit_code(), number == SIGINT ? 130 : 143);
  }
}

TEST(Interrupt, SecondSignalEndsTheProcess) {
  const int status = status_of([] {
    InterruptGuard guard;
    ::raise(SIGINT);
    ::raise(SIGINT);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGINT);
}

TEST(Interrupt, PrintsItsMessageOnce) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  status_of([&] {
    ::dup2(pipe_ends[1], STDERR_FILENO);
    InterruptGuard guard("saving");
    ::raise(SIGINT);
  });
  ::close(pipe_ends[1]);
  char text[64] = {};
  EXPECT_EQ(::read(pipe_ends[0], text, sizeof text - 1), 7);
  EXPECT_STREQ(text, "saving\n");
  ::close(pipe_ends[0]);
}

TEST(Interrupt, PutsBackWhatItFound) {
  struct sigaction ours = {};
  ours.sa_handler = [](int) {};
  struct sigaction before = {};
  ::sigaction(SIGINT, &ours, &before);
  { InterruptGuard guard; }
  struct sigaction now = {};
  ::sigaction(SIGINT, &before, &now);
  EXPECT_EQ(now.sa_handler, ours.sa_handler);
}

TEST(Interrupt, LeavesAnIgnoredSignalIgnored) {
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  struct sigaction before = {};
  ::sigaction(SIGINT, &ignore, &before);
  {
    InterruptGuard guard;
    ::raise(SIGINT);
    EXPECT_FALSE(guard.requested());
  }
  ::sigaction(SIGINT, &before, nullptr);
}

TEST(Interrupt, OnlyOneAtATime) {
  InterruptGuard guard;
  EXPECT_THROW(InterruptGuard(), ConfigError);
}

}  // namespace
}  // namespace trinix::tools
