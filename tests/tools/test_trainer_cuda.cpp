// Training on a card. Without one these tests are skipped.
#include "small_run.h"

#include <cmath>
#include <gmock/gmock.h>

#include <trinix/core/backend.h>
#include <trinix/tools/lib/checkpoint.h>
#include <trinix/tools/lib/metrics.h>
#include <trinix/tools/lib/write_text.h>

namespace trinix::tools {
namespace {

using test::expect_same_file;
using test::small_config;
using test::TempFolder;
using test::train_quietly;

class TrainerOnACard : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!is_available(Device::cuda())) GTEST_SKIP() << "this machine or build has no CUDA device";
  }

  TrainConfig card_config(const std::string& run) {
    TrainConfig config = small_config(folder_, run);
    config.device = "cuda";
    config.deterministic = true;
    return config;
  }

  std::vector<MetricsRow> rows(const std::string& run) { return read_metrics(folder_ / (run + "/metrics.jsonl")); }

  void expect_same_losses(const std::string& a, const std::string& b, double tolerance) {
    const auto first = rows(a), second = rows(b);
    ASSERT_EQ(first.size(), second.size());
    for (std::size_t i = 0; i < first.size(); ++i) {
      EXPECT_NEAR(first[i].loss, second[i].loss, tolerance) << "step " << i + 1;
      EXPECT_EQ(first[i].evaluated, second[i].evaluated);
      if (first[i].evaluated) {
        EXPECT_NEAR(first[i].val_loss, second[i].val_loss, tolerance) << "step " << i + 1;
      }
    }
  }

  TempFolder folder_;
};

TEST_F(TrainerOnACard, TheFirstFiftyLossesOfCharCpuAreThoseOfTheCpu) {
  TrainConfig config;  // char-cpu
  config.data = folder_.add("text.txt", test::small_text()).string();
  config.iters = 50;
  config.eval_interval = 25;
  config.eval_iters = 2;
  config.out = (folder_ / "cpu").string();
  train_quietly(config);
  config.device = "cuda";
  config.out = (folder_ / "cuda").string();
  train_quietly(config);
  expect_same_losses("cpu", "cuda", 1e-4);
}

TEST_F(TrainerOnACard, DropsTheSameActivationsAsTheCpu) {
  TrainConfig config = small_config(folder_, "cpu");
  train_quietly(config);
  config.device = "cuda";
  config.out = (folder_ / "cuda").string();
  train_quietly(config);
  expect_same_losses("cpu", "cuda", 1e-4);
}

TEST_F(TrainerOnACard, TwoRunsAreEqualToTheBit) {
  for (const char* dtype : {"f32", "bf16", "f16"}) {
    TrainConfig config = card_config(std::string("a") + dtype);
    config.dtype = dtype;
    train_quietly(config);
    config.out = (folder_ / (std::string("b") + dtype)).string();
    train_quietly(config);
    const std::string last = "/checkpoints/" + checkpoint_name(8);
    for (const char* file : {"/model.safetensors", "/optimizer.safetensors"}) {
      expect_same_file(folder_ / ("a" + (dtype + last) + file), folder_ / ("b" + (dtype + last) + file));
    }
  }
}

TEST_F(TrainerOnACard, ResumingContinuesBitForBit) {
  for (const char* dtype : {"f32", "bf16", "f16"}) {
    const std::string whole = std::string("whole") + dtype, parts = std::string("parts") + dtype;
    TrainConfig config = card_config(whole);
    config.dtype = dtype;
    train_quietly(config);
    config.out = (folder_ / parts).string();
    train_quietly(config, {.after_step = [](std::int64_t step, double) { return step < 4; }});
    EXPECT_EQ(load_newest_checkpoint(config.out, true).state.step, 4);
    config.resume = true;
    EXPECT_EQ(train_quietly(config).steps, 8);
    const std::string last = "/checkpoints/" + checkpoint_name(8);
    for (const char* file : {"/model.safetensors", "/optimizer.safetensors"}) {
      expect_same_file(folder_ / (whole + last + file), folder_ / (parts + last + file));
    }
    expect_same_losses(whole, parts, 0);
  }
}

TEST_F(TrainerOnACard, ARunMovesBetweenCpuAndCard) {
  train_quietly(small_config(folder_, "cpu"));
  TrainConfig config = small_config(folder_, "moving");
  const auto until = [](std::int64_t last) {
    return TrainHooks{.after_step = [last](std::int64_t step, double) { return step < last; }};
  };
  train_quietly(config, until(2));
  config.resume = true;
  config.chosen = {"device"};
  config.device = "cuda";
  train_quietly(config, until(5));
  config.device = "cpu";
  EXPECT_EQ(train_quietly(config).steps, 8);
  expect_same_losses("cpu", "moving", 1e-4);
}

TEST_F(TrainerOnACard, ARunMayGoOnInAnotherDtype) {
  TrainConfig config = card_config("run");
  config.dtype = "f32";
  const auto until = [](std::int64_t last) {
    return TrainHooks{.after_step = [last](std::int64_t step, double) { return step < last; }};
  };
  train_quietly(config, until(3));
  config.resume = true;
  config.chosen = {"dtype", "device"};
  config.dtype = "bf16";
  train_quietly(config, until(6));
  config.dtype = "f32";
  config.device = "cpu";
  EXPECT_EQ(train_quietly(config).steps, 8);
  for (const MetricsRow& row : rows("run")) EXPECT_LT(row.loss, 5) << "step " << row.step;
}

TEST_F(TrainerOnACard, NamesTheStepWhoseLossIsNotFinite) {
  TrainConfig config = card_config("run");
  config.lr = 1e30;  // the first step throws the weights so far that the second loss cannot be finite
  config.min_lr = 0;
  config.warmup = 0;
  config.clip = 0;
  config.iters = 1000;
  config.checkpoint_interval = 1;
  const std::string message = test::error_of<AutogradError>([&] { train_quietly(config); });
  EXPECT_THAT(message, ::testing::HasSubstr("step 2"));
  EXPECT_EQ(load_newest_checkpoint(config.out, true).state.step, 1);
  config.out = (folder_ / "lagging").string();
  config.checkpoint_interval = 0;  // then the next step is under way when the loss is read
  EXPECT_THAT(test::error_of<AutogradError>([&] { train_quietly(config); }), ::testing::HasSubstr("step 2"));
}

TEST_F(TrainerOnACard, WritesText) {
  train_quietly(card_config("run"));
  SampleConfig sample{.run = (folder_ / "run").string(), .prompt = "the ", .tokens = 40};
  const std::string on_cpu = write_text(sample);
  sample.device = "cuda";
  EXPECT_EQ(write_text(sample).size(), on_cpu.size());
}

}  // namespace
}  // namespace trinix::tools
