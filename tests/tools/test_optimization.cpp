// Runs with every optimizer, schedule and kind of arithmetic: that they go on bit for bit, and what they write.
#include "small_run.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sstream>

#include <trinix/core/error.h>
#include <trinix/tools/lib/checkpoint.h>
#include <trinix/tools/lib/metrics.h>
#include <trinix/tools/lib/optimization.h>
#include <trinix/tools/lib/write_text.h>

namespace trinix::tools {
namespace {

using test::expect_same_file;
using test::small_config;
using test::TempFolder;
using test::train_quietly;
using ::testing::HasSubstr;

/// The smallest run that goes through everything.
TrainConfig tiny_config(const TempFolder& folder, const std::string& run) {
  TrainConfig c = small_config(folder, run);
  c.layers = 1;
  c.iters = 6;
  c.warmup = 1;
  c.eval_interval = 1;
  c.eval_iters = 1;
  c.checkpoint_interval = 3;
  c.grad_accum = 1;
  c.threads = 1;
  return c;
}

/// A run that was stopped after half of its steps ends as one that went through.
void expect_to_go_on(const TempFolder& folder, TrainConfig config, const std::string& name) {
  config.out = (folder / (name + "-whole")).string();
  train_quietly(config);
  config.out = (folder / (name + "-parts")).string();
  train_quietly(config, {.after_step = [](std::int64_t step, double) { return step < 3; }});
  ASSERT_EQ(load_newest_checkpoint(config.out, true).state.step, 3);
  config.resume = true;
  EXPECT_EQ(train_quietly(config).steps, 6);
  const std::string last = "/checkpoints/" + checkpoint_name(6);
  for (const char* file : {"/model.safetensors", "/optimizer.safetensors"}) {
    expect_same_file(folder / (name + "-whole" + last + file), folder / (name + "-parts" + last + file));
  }
  const auto whole = read_metrics(folder / (name + "-whole/metrics.jsonl"));
  const auto parts = read_metrics(folder / (name + "-parts/metrics.jsonl"));
  ASSERT_EQ(whole.size(), parts.size());
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(whole[i].lr, parts[i].lr) << name << " at step " << i + 1;
    EXPECT_EQ(whole[i].val_loss, parts[i].val_loss) << name << " at step " << i + 1;
  }
}

TEST(Optimization, EverySchedulesRunGoesOnBitForBit) {
  TempFolder folder;
  for (const std::string& name : schedule_names()) {
    TrainConfig config = tiny_config(folder, "");
    config.schedule = name;
    if (name == "plateau") {
      config.plateau_threshold = 0.9;  // nothing is progress enough
      config.plateau_patience = 1;
    }
    expect_to_go_on(folder, config, name);
  }
  const auto rows = read_metrics(folder / "plateau-parts/metrics.jsonl");
  EXPECT_LT(rows.back().lr, rows[2].lr);
}

TEST(Optimization, EveryOptimizersRunGoesOnBitForBit) {
  TempFolder folder;
  for (const std::string& name : optimizer_names()) {
    TrainConfig config = tiny_config(folder, "");
    const TrainConfig usual = recipe("char-cpu", name);
    config.optimizer = name;
    config.lr = usual.lr;
    config.min_lr = usual.min_lr;
    config.weight_decay = usual.weight_decay;
    expect_to_go_on(folder, config, name);
    const auto rows = read_metrics(folder / (name + "-whole/metrics.jsonl"));
    EXPECT_LT(rows.back().val_loss, rows.front().val_loss) << name;
  }
}

TEST(Optimization, SchedulesFollowTheirOptions) {
  TrainConfig c = preset("char-cpu");
  c.iters = 1000;
  c.lr = 1;
  c.min_lr = 0.1;
  c.warmup = 0;
  const auto at = [&](const std::string& schedule, std::int64_t step) {
    c.schedule = schedule;
    return make_schedule(c)->at(step);
  };
  EXPECT_EQ(at("constant", 999), 1);
  EXPECT_DOUBLE_EQ(at("linear", 500), 0.55);
  EXPECT_DOUBLE_EQ(at("cosine", 500), 0.55);
  EXPECT_DOUBLE_EQ(at("polynomial", 500), 0.1 + 0.9 * 0.25);
  EXPECT_EQ(at("wsd", 800), 1);  // the last fifth leads down
  EXPECT_DOUBLE_EQ(at("wsd", 850), 0.1 + 0.9 * 0.5);
  EXPECT_DOUBLE_EQ(at("step", 400), 0.1);  // the last two thirds
  EXPECT_EQ(at("step", 300), 1);
  EXPECT_NEAR(at("one-cycle", 0), 0.04, 1e-15);
  EXPECT_EQ(at("one-cycle", 299), 1);
  EXPECT_EQ(at("one-cycle", 999), 0.1);
  EXPECT_EQ(at("plateau", 999), 1);
}

TEST(Optimization, ARunInF16GoesOnBitForBitAndShowsItsScale) {
  TempFolder folder;
  TrainConfig config = tiny_config(folder, "");
  config.dtype = "f16";
  config.loss_scale = 0x1p22;  // too much for f16: the first step is skipped
  expect_to_go_on(folder, config, "f16");
  const auto rows = read_metrics(folder / "f16-parts/metrics.jsonl");
  EXPECT_EQ(rows[0].loss_scale, 0x1p22);
  EXPECT_TRUE(std::isnan(rows[0].grad_norm));  // null: it was not finite
  EXPECT_EQ(rows[1].loss_scale, 0x1p21);
  EXPECT_FALSE(std::isnan(rows.back().grad_norm));
  const Checkpoint last = load_newest_checkpoint(folder / "f16-parts", true);
  EXPECT_EQ(last.model.at("lm_head.weight").dtype(), DType::f16);
  EXPECT_EQ(last.optimizer.at("state.transformer.wte.weight.master").dtype(), DType::f32);
}

TEST(Optimization, TheLossesOfF16AreThoseOfF32) {
  TempFolder folder;
  TrainConfig config = tiny_config(folder, "f32");
  config.iters = 12;
  train_quietly(config);
  config.out = (folder / "f16").string();
  config.dtype = "f16";
  config.loss_scale = 1024;
  train_quietly(config);
  const auto wide = read_metrics(folder / "f32/metrics.jsonl"), half = read_metrics(folder / "f16/metrics.jsonl");
  for (std::size_t i = 0; i < wide.size(); ++i) {
    EXPECT_NEAR(half[i].loss, wide[i].loss, 2e-3) << "step " << i + 1;
    EXPECT_NEAR(half[i].grad_norm, wide[i].grad_norm, 0.01 * wide[i].grad_norm) << "step " << i + 1;
  }
}

TEST(Optimization, ARunWhoseEveryStepIsSkippedStopsWithItsStateSaved) {
  TempFolder folder;
  TrainConfig config = tiny_config(folder, "run");
  config.dtype = "f16";
  config.iters = 300;
  config.eval_interval = 0;
  config.checkpoint_interval = 0;
  config.loss_scale = 0x1p126;  // a hundred halvings do not bring it into the range of f16
  const std::string text = test::error_of<AutogradError>([&] { train_quietly(config); });
  EXPECT_THAT(text, HasSubstr("100 steps in a row were skipped because their gradients were not finite"));
  EXPECT_EQ(load_newest_checkpoint(config.out, true).state.step, 100);
}

TEST(Optimization, AMovingAverageIsEvaluatedSavedAndSampled) {
  TempFolder folder;
  TrainConfig config = tiny_config(folder, "");
  config.ema = 0.6;
  expect_to_go_on(folder, config, "ema");
  TrainConfig plain = tiny_config(folder, "plain");
  train_quietly(plain);
  const auto with = read_metrics(folder / "ema-whole/metrics.jsonl"),
             without = read_metrics(folder / "plain/metrics.jsonl");
  EXPECT_EQ(with[0].val_loss, without[0].val_loss);  // the average of one
  EXPECT_NE(with[4].val_loss, without[4].val_loss);
  for (std::size_t i = 0; i < with.size(); ++i) EXPECT_EQ(with[i].loss, without[i].loss);
  SampleConfig sample{.run = (folder / "ema-whole").string(), .prompt = "the ", .tokens = 20};
  const std::string averaged = write_text(sample);
  sample.run = (folder / "plain").string();
  EXPECT_EQ(averaged.size(), write_text(sample).size());
}

TEST(Optimization, StatisticsOfGradientsGoToTheMetrics) {
  TempFolder folder;
  TrainConfig config = tiny_config(folder, "run");
  config.grad_stats = 4;
  train_quietly(config);
  const std::string text = read_file(folder / "run/metrics.jsonl");
  std::istringstream lines(text);
  std::string line;
  for (int step = 1; std::getline(lines, line); ++step) {
    const auto row = nlohmann::json::parse(line);
    EXPECT_EQ(row.contains("gradients"), step == 4);
    if (step != 4) continue;
    double squares = 0;
    for (const auto& [name, s] : row.at("gradients").items()) {
      squares += std::pow(s.at("norm").get<double>(), 2);
      EXPECT_GT(s.at("max_abs").get<double>(), 0) << name;
      EXPECT_LT(s.at("zeros").get<double>(), 1) << name;
      EXPECT_EQ(s.at("non_finite").get<double>(), 0) << name;
    }
    EXPECT_NEAR(std::sqrt(squares), row.at("grad_norm").get<double>(), 1e-5);
    EXPECT_TRUE(row.at("gradients").contains("transformer.h.0.attn.c_attn.weight"));
  }
  EXPECT_EQ(read_metrics(folder / "run/metrics.jsonl").size(), 6U);
}

TEST(Optimization, AccumulatedGradientsAreThoseOfTheLargeBatch) {
  TempFolder folder;
  TrainConfig large = tiny_config(folder, "large");
  large.dropout = 0;
  large.batch = 12;
  large.iters = 3;
  TrainConfig accumulated = large;
  accumulated.out = (folder / "accumulated").string();
  accumulated.batch = 3;
  accumulated.grad_accum = 4;
  train_quietly(large);
  train_quietly(accumulated);
  const auto a = read_metrics(folder / "accumulated/metrics.jsonl"), b = read_metrics(folder / "large/metrics.jsonl");
  EXPECT_NEAR(a[0].loss, b[0].loss, 1e-6 * b[0].loss);
  EXPECT_NEAR(a[0].grad_norm, b[0].grad_norm, 1e-6 * b[0].grad_norm);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i].loss, b[i].loss, 1e-5 * b[i].loss);
}

TEST(Optimization, AnotherOptimizerCannotGoOn) {
  TempFolder folder;
  TrainConfig config = tiny_config(folder, "run");
  train_quietly(config);
  config.resume = true;
  config.optimizer = "lion";
  config.chosen = {"optimizer"};
  EXPECT_EQ(test::error_of<ConfigError>([&] { train_quietly(config); }),
            "[resume] --optimizer lion cannot go on from what the checkpoint's adamw remembers; leave the flag out, or "
            "start a new run in another folder");
}

}  // namespace
}  // namespace trinix::tools
