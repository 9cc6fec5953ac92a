#include <cmath>
#include <cstdlib>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <trinix/tools/lib/progress.h>
#include <trinix/tools/lib/terminal.h>

namespace trinix::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// The columns a text takes: its characters, not its bytes.
int columns(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

/// Two ends of something: what the progress writes into `in` is read from `out`.
struct Ends {
  int out = -1;
  int in = -1;
  ~Ends() {
    if (in >= 0) ::close(in);
    if (out >= 0) ::close(out);
  }
  [[nodiscard]] std::string text() const {
    ::fcntl(out, F_SETFL, O_NONBLOCK);
    std::string all;
    char part[4096];
    for (ssize_t got = 0; (got = ::read(out, part, sizeof part)) > 0;) all.append(part, static_cast<std::size_t>(got));
    return all;
  }
};

struct Pipe : Ends {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    out = ends[0];
    in = ends[1];
  }
};

struct Terminal : Ends {
  explicit Terminal(unsigned short width) {
    struct winsize size = {24, width, 0, 0};
    EXPECT_EQ(::openpty(&out, &in, nullptr, nullptr, &size), 0);
    ::setenv("TERM", "xterm", 1);
  }
};

ProgressState at(std::int64_t step) { return {.step = step, .loss = 2.5, .lr = 1e-3, .tokens_per_second = 21340}; }

TEST(Progress, WritesPlainLinesIntoAPipe) {
  Pipe pipe;
  double now = 100;
  Progress progress({.total_steps = 100, .fd = pipe.in, .line_interval = 50, .clock = [&] { return now; }});
  for (int step = 1; step <= 100; ++step) {
    now += 0.5;
    progress.update(at(step));
    if (step == 50) progress.evaluated(at(step), 2.0, 2.25);
  }
  progress.note("saved");
  progress.finish();
  EXPECT_EQ(pipe.text(),
            "step 1/100  loss 2.5000  lr 1.00e-03  21.3k tok/s  0:01 elapsed  0:50 left\n"
            "step 50/100  loss 2.5000  lr 1.00e-03  21.3k tok/s  0:25 elapsed  0:25 left\n"
            "step 50/100  evaluation: train loss 2.0000 val loss 2.2500\n"
            "step 100/100  loss 2.5000  lr 1.00e-03  21.3k tok/s  0:50 elapsed\n"
            "saved\n");
}

TEST(Progress, ShowsTheUseOfACard) {
  Pipe pipe;
  ProgressState state = at(1);
  state.tflops = 412.4;
  state.peak_tflops = 989;
  state.peak_memory_bytes = 12.25 * (1 << 30);
  {
    Progress progress({.total_steps = 2, .fd = pipe.in, .clock = [] { return 0.0; }});
    progress.update(state);
    EXPECT_THAT(progress.live_line(200), AllOf(HasSubstr("412 TFLOP/s, 42% of 989"), HasSubstr("12.25 GiB")));
    EXPECT_THAT(progress.live_line(60), AllOf(HasSubstr("loss 2.5000"), Not(HasSubstr("TFLOP"))));
    state.step = 2;
    state.peak_tflops = ProgressState::kUnknown;
    state.tflops = 4.5;
    progress.update(state);
  }
  EXPECT_THAT(pipe.text(), AllOf(HasSubstr("tok/s  412 TFLOP/s, 42% of 989  peak memory 12.25 GiB  0:00 elapsed"),
                                 HasSubstr("4.50 TFLOP/s  peak memory")));
}

TEST(Progress, DrawsOneLineOnATerminal) {
  Terminal terminal(120);
  double now = 0;
  Progress progress({.total_steps = 1000, .fd = terminal.in, .clock = [&] { return now; }});
  for (int step = 1; step <= 500; ++step) {
    now += 0.01;
    progress.update(at(step));
  }
  progress.note("saved step 500");
  progress.finish();
  const std::string text = terminal.text();
  // 5 seconds at ten a second, not 500 lines.
  const auto redraws = std::count(text.begin(), text.end(), '\r');
  EXPECT_GE(redraws, 45);
  EXPECT_LE(redraws, 60);
  EXPECT_THAT(text, AllOf(HasSubstr("step 500/1000"), HasSubstr(" 50%"), HasSubstr("loss 2.5000"),
                          HasSubstr("lr 1.0e-03"), HasSubstr("21.3k tok/s"), HasSubstr("0:05 left")));
  EXPECT_THAT(text, HasSubstr("\r\x1b[Ksaved step 500"));
  EXPECT_EQ(text.substr(text.size() - 2), "\r\n");
  EXPECT_THAT(text, Not(HasSubstr("\x1b[?25l"))) << "the cursor must not be hidden";
}

TEST(Progress, FitsEveryWidth) {
  Pipe pipe;
  for (const char* locale : {"C", "en_US.UTF-8"}) {
    ::setenv("LC_ALL", locale, 1);
    double now = 0;
    Progress progress({.total_steps = 5000, .fd = pipe.in, .clock = [&] { return now; }});
    now = 100;
    progress.evaluated(at(1234), 1.5, 1.75);
    for (int width = 0; width < 200; ++width) EXPECT_LE(columns(progress.live_line(width)), width) << width;
    EXPECT_THAT(progress.live_line(150),
                AllOf(HasSubstr("step 1234/5000"), HasSubstr(" 24%"), HasSubstr("loss 2.5000"), HasSubstr("val 1.7500"),
                      HasSubstr("lr 1.0e-03"), HasSubstr("21.3k tok/s"), HasSubstr("5:05 left")));
    // The loss outlives the learning rate as the terminal narrows.
    EXPECT_THAT(progress.live_line(40), AllOf(HasSubstr("loss 2.5000"), Not(HasSubstr("lr"))));
    EXPECT_EQ(progress.live_line(8), "step 123");
  }
  ::unsetenv("LC_ALL");
}

TEST(Progress, BarFillsFromEmptyToFull) {
  ::setenv("LC_ALL", "C", 1);
  Pipe pipe;
  Progress progress({.total_steps = 10, .fd = pipe.in});
  EXPECT_THAT(progress.live_line(80), HasSubstr("[..............................]"));
  progress.update({.step = 5});
  EXPECT_THAT(progress.live_line(80), HasSubstr("[###############...............]"));
  progress.update({.step = 10});
  EXPECT_THAT(progress.live_line(80), HasSubstr("[##############################]"));
  progress.update({.step = 11});
  EXPECT_THAT(progress.live_line(80), HasSubstr("100%"));
  ::setenv("LC_ALL", "C.UTF-8", 1);
  Progress fine({.total_steps = 10, .fd = pipe.in});
  fine.update({.step = 5});
  EXPECT_THAT(fine.live_line(80), HasSubstr("│███████████████               │"));
  ::unsetenv("LC_ALL");
}

TEST(Progress, SurvivesNumbersThatAreNone) {
  Pipe pipe;
  Progress progress({.total_steps = 0, .fd = pipe.in});
  progress.update({.step = 0, .loss = INFINITY, .lr = NAN, .tokens_per_second = INFINITY});
  EXPECT_THAT(progress.live_line(100), HasSubstr("loss inf"));
}

TEST(Progress, SpeedOfAResumedRunIsItsOwn) {
  Pipe pipe;
  double now = 0;
  Progress progress({.total_steps = 1000, .first_step = 900, .fd = pipe.in, .clock = [&] { return now; }});
  now = 50;
  progress.update(at(950));
  EXPECT_THAT(progress.live_line(150), HasSubstr("0:50 left"));
}

TEST(Progress, FallsSilentWhenNobodyReads) {
  // Also under the default handling of SIGPIPE, which would end the process.
  const auto before = ::signal(SIGPIPE, SIG_DFL);
  {
    Pipe pipe;
    ::close(pipe.out);
    pipe.out = -1;
    Progress progress({.total_steps = 10, .fd = pipe.in, .line_interval = 1});
    for (int step = 1; step <= 10; ++step) progress.update(at(step));
    progress.note("still here");
  }
  ::signal(SIGPIPE, before);
  SUCCEED();
}

TEST(Terminal, KeepsASignalThatWasAlreadyWaiting) {
  sigset_t pipe_signal;
  ::sigemptyset(&pipe_signal);
  ::sigaddset(&pipe_signal, SIGPIPE);
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  ::raise(SIGPIPE);
  Pipe pipe;
  EXPECT_TRUE(write_quietly(pipe.in, "x"));
  sigset_t pending;
  ::sigpending(&pending);
  EXPECT_EQ(::sigismember(&pending, SIGPIPE), 1);
  int number = 0;
  ::sigwait(&pipe_signal, &number);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(Terminal, KnowsItsWidth) {
  Terminal terminal(93);
  EXPECT_TRUE(is_terminal(terminal.in));
  EXPECT_EQ(terminal_width(terminal.in), 93);
  ::setenv("TERM", "dumb", 1);
  EXPECT_FALSE(is_terminal(terminal.in));
  ::setenv("TERM", "xterm", 1);
  Pipe pipe;
  EXPECT_FALSE(is_terminal(pipe.in));
  ::setenv("COLUMNS", "57", 1);
  EXPECT_EQ(terminal_width(pipe.in), 57);
  ::setenv("COLUMNS", "wide", 1);
  EXPECT_EQ(terminal_width(pipe.in), 80);
  ::unsetenv("COLUMNS");
}

TEST(Text, OfDurationsAndCounts) {
  EXPECT_EQ(duration_text(0), "0:00");
  EXPECT_EQ(duration_text(59.6), "1:00");
  EXPECT_EQ(duration_text(727), "12:07");
  EXPECT_EQ(duration_text(11110), "3:05:10");
  EXPECT_EQ(duration_text(4 * 86400 + 2 * 3600), "4d 02h");
  EXPECT_EQ(duration_text(NAN), "?");
  EXPECT_EQ(duration_text(-1), "?");
  EXPECT_EQ(count_text(0), "0.00");
  EXPECT_EQ(count_text(7.25), "7.25");
  EXPECT_EQ(count_text(812), "812");
  EXPECT_EQ(count_text(999.7), "1.00k");
  EXPECT_EQ(count_text(21340), "21.3k");
  EXPECT_EQ(count_text(999'600), "1.00M");
  EXPECT_EQ(count_text(1'420'000), "1.42M");
  EXPECT_EQ(count_text(NAN), "?");
}

}  // namespace
}  // namespace trinix::tools
