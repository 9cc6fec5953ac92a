// The program end to end, as a user runs it: training, signals, kills, bad input.
#include "program.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <thread>

#include <trinix/core/backend.h>
#include <trinix/tools/lib/checkpoint.h>
#include <trinix/tools/lib/metrics.h>
#include <trinix/tools/lib/run_lock.h>

namespace trinix::tools {
namespace {

using test::ProgramResult;
using test::run_program;
using test::start_program;
using test::TempFolder;
using test::wait_for_program;
using ::testing::HasSubstr;

std::string text_of_words() {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "to be or not to be " + std::to_string(i % 97) + "\n";
  return text;
}

class TrainingProgram : public ::testing::Test {
 protected:
  /// A run of a tiny model; more flags may follow.
  std::vector<std::string> command(const std::string& run, const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {"train", "--data", data_, "--out", (folder_ / run).string()};
    for (const char* flag : {"--batch",
                             "2",
                             "--block",
                             "16",
                             "--layers",
                             "1",
                             "--heads",
                             "2",
                             "--width",
                             "16",
                             "--dropout",
                             "0.1",
                             "--warmup",
                             "2",
                             "--eval-interval",
                             "10",
                             "--eval-iters",
                             "1",
                             "--checkpoint-interval",
                             "5",
                             "--threads",
                             "1"}) {
      args.emplace_back(flag);
    }
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }

  /// One line on standard error and a failure.
  void expect_complaint(const std::vector<std::string>& args, const std::string& part) {
    const ProgramResult r = run_program(args);
    EXPECT_NE(r.code, 0);
    EXPECT_THAT(r.err, HasSubstr(part));
    EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
  }

  std::string model_bytes(const std::string& run, std::int64_t step) {
    return read_file(folder_ / (run + "/checkpoints/" + checkpoint_name(step) + "/model.safetensors"));
  }

  /// Waits until the run has got so far, at most half a minute.
  void wait_for_step(const std::string& run, std::int64_t step) {
    for (int i = 0; i < 3000; ++i) {
      const auto names = list_checkpoints(folder_ / run);
      if (!names.empty() && names.front() >= checkpoint_name(step)) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL() << "the run made no checkpoint of step " << step;
  }

  /// A run that was killed and resumed ends as one that went through.
  void expect_same_after_a_kill(const std::vector<std::string>& flags) {
    std::vector<std::string> more = {"--iters", "400"};
    more.insert(more.end(), flags.begin(), flags.end());
    ASSERT_EQ(run_program(command("whole", more)).code, 0);
    const auto args = command("killed", more);
    const pid_t child = start_program(args, (folder_ / "o").string(), (folder_ / "e").string());
    wait_for_step("killed", 100);
    ::kill(child, SIGKILL);
    EXPECT_EQ(wait_for_program(child), 128 + SIGKILL);
    auto resumed = args;
    resumed.emplace_back("--resume");
    const ProgramResult r = run_program(resumed);
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("going on after step"));
    EXPECT_EQ(model_bytes("whole", 400), model_bytes("killed", 400));
    EXPECT_EQ(read_metrics(folder_ / "killed/metrics.jsonl").size(), 400U);
  }

  TempFolder folder_;
  std::string data_ = folder_.add("words.txt", text_of_words()).string();
};

TEST_F(TrainingProgram, TrainsAndSamples) {
  const ProgramResult trained = run_program(command("run", {"--iters", "12"}));
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("best validation loss"));
  const ProgramResult sampled =
      run_program({"sample", "--run", (folder_ / "run").string(), "--prompt", "to be", "--tokens", "20",
                   "--temperature", "0.5", "--top-k", "5", "--top-p", "0.9"});
  EXPECT_EQ(sampled.code, 0) << sampled.err;
  EXPECT_THAT(sampled.out, ::testing::StartsWith("to be"));
  EXPECT_EQ(sampled.out.size(), 5U + 20 + 1);
}

TEST_F(TrainingProgram, ShowsWhatARunHolds) {
  ASSERT_EQ(run_program(command("run", {"--iters", "5"})).code, 0);
  const ProgramResult run = run_program({"info", (folder_ / "run").string()});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("step 5, best validation loss"));
  EXPECT_THAT(run.out, HasSubstr("F32   [48, 16]  transformer.h.0.attn.c_attn.weight"));
  expect_complaint({"info", data_}, "words.txt");
}

TEST_F(TrainingProgram, GoesOnBitForBitAfterAKill) { expect_same_after_a_kill({}); }

TEST_F(TrainingProgram, GoesOnBitForBitAfterAKillOnACard) {
  if (!is_available(Device::cuda())) GTEST_SKIP() << "this machine or build has no CUDA device";
  expect_same_after_a_kill({"--device", "cuda", "--dtype", "bf16", "--deterministic"});
}

TEST_F(TrainingProgram, CtrlCSavesAndExits130) {
  const pid_t child =
      start_program(command("run", {"--iters", "1000000"}), (folder_ / "o").string(), (folder_ / "e").string());
  wait_for_step("run", 5);
  ::kill(child, SIGINT);
  EXPECT_EQ(wait_for_program(child), 130);
  const auto rows = read_metrics(folder_ / "run/metrics.jsonl");
  EXPECT_EQ(load_newest_checkpoint(folder_ / "run", true).state.step, static_cast<std::int64_t>(rows.size()));
}

TEST_F(TrainingProgram, NamesWhatIsWrongWithTheData) {
  const auto with_data = [&](const std::string& path) {
    auto args = command("run");
    args[2] = path;
    return args;
  };
  expect_complaint(with_data((folder_ / "missing.txt").string()), "No such file");
  expect_complaint(with_data(folder_.add("empty.txt", "").string()), "empty");
  expect_complaint(with_data(folder_.add("short.txt", "too short").string()), "short.txt");
  expect_complaint(with_data(folder_.add("binary.txt", std::string("a\0b\0c", 5)).string()), "binary.txt");
  expect_complaint(with_data(folder_.add("odd.bin", std::string(1001, 'x')).string()), "odd.bin");
}

TEST_F(TrainingProgram, NamesTheProcessThatHoldsTheFolder) {
  const RunLock lock(folder_ / "run");
  expect_complaint(command("run", {"--iters", "2"}), std::to_string(::getpid()));
}

TEST_F(TrainingProgram, RefusesAFolderThatItCannotWrite) {
  folder_.add("file", "not a folder");
  expect_complaint(command("file", {"--iters", "2"}), "file");
}

TEST_F(TrainingProgram, RefusesToResumeAnotherModel) {
  ASSERT_EQ(run_program(command("run", {"--iters", "5"})).code, 0);
  expect_complaint(command("run", {"--iters", "10", "--resume", "--width", "32"}), "--width 32");
  EXPECT_EQ(model_bytes("run", 5).empty(), false);
}

TEST_F(TrainingProgram, KeepsTheLastGoodCheckpointWhenTheDiskIsFull) {
  const auto disk = folder_ / "disk";
  std::filesystem::create_directories(disk);
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=600k") != 0) {
    GTEST_SKIP() << "mounting a small file system needs root: " << std::strerror(errno);
  }
  const ProgramResult r = run_program(command("disk/run", {"--iters", "100000", "--checkpoint-interval", "1"}));
  EXPECT_NE(r.code, 0);
  EXPECT_THAT(r.err, ::testing::AnyOf(HasSubstr("No space left"), HasSubstr("free")));
  EXPECT_GE(load_newest_checkpoint(disk / "run", true).state.step, 1);
  ::umount(disk.c_str());
}

}  // namespace
}  // namespace trinix::tools
