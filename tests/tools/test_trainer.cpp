#include "small_run.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/core/deterministic.h>
#include <trinix/core/safetensors.h>
#include <trinix/layers/gpt.h>
#include <trinix/tools/lib/checkpoint.h>
#include <trinix/tools/lib/checkpoint_saver.h>
#include <trinix/tools/lib/evaluate.h>
#include <trinix/tools/lib/metrics.h>
#include <trinix/tools/lib/trainer.h>
#include <trinix/tools/lib/write_text.h>

namespace trinix::tools {
namespace {

using test::expect_same_file;
using test::small_config;
using test::small_text;
using test::TempFolder;
using test::train_quietly;
using ::testing::HasSubstr;

TEST(Trainer, LeavesAllTheFilesOfARun) {
  TempFolder folder;
  const TrainConfig config = small_config(folder, "run");
  const TrainResult result = train_quietly(config);
  EXPECT_EQ(result.steps, 8);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_FALSE(result.sample.empty());
  EXPECT_TRUE(std::isfinite(result.best_validation_loss));
  const auto rows = read_metrics(folder / "run/metrics.jsonl");
  ASSERT_EQ(rows.size(), 8U);
  EXPECT_TRUE(rows[3].evaluated);
  EXPECT_TRUE(rows[7].evaluated);
  EXPECT_GT(rows[0].grad_norm, 0);
  EXPECT_THAT(read_file(folder / "run/loss.svg"), HasSubstr("<svg"));
  const Checkpoint last = load_newest_checkpoint(config.out, true);
  EXPECT_EQ(last.state.step, 8);
  EXPECT_EQ(last.state.data_position, 8U * 2 * 3);
  EXPECT_EQ(load_checkpoint(folder / "run/checkpoints/best", false).state.best_validation_loss,
            result.best_validation_loss);
}

TEST(Trainer, ResumingContinuesBitForBit) {
  TempFolder folder;
  train_quietly(small_config(folder, "whole"));
  TrainConfig config = small_config(folder, "parts");
  train_quietly(config, {.after_step = [](std::int64_t step, double) { return step < 4; }});
  EXPECT_EQ(load_newest_checkpoint(config.out, true).state.step, 4);
  config.resume = true;
  EXPECT_EQ(train_quietly(config).steps, 8);
  const std::string last = "checkpoints/" + checkpoint_name(8);
  expect_same_file(folder / ("whole/" + last + "/model.safetensors"),
                   folder / ("parts/" + last + "/model.safetensors"));
  expect_same_file(folder / ("whole/" + last + "/optimizer.safetensors"),
                   folder / ("parts/" + last + "/optimizer.safetensors"));
  const auto whole = read_metrics(folder / "whole/metrics.jsonl");
  const auto parts = read_metrics(folder / "parts/metrics.jsonl");
  ASSERT_EQ(whole.size(), parts.size());
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(whole[i].loss, parts[i].loss) << "step " << i + 1;
    EXPECT_EQ(whole[i].grad_norm, parts[i].grad_norm) << "step " << i + 1;
  }
}

TEST(Trainer, GradientAccumulationEqualsTheLargeBatch) {
  TempFolder folder;
  TrainConfig accumulated = small_config(folder, "accumulated");
  accumulated.dropout = 0;
  accumulated.iters = 3;
  TrainConfig large = accumulated;
  large.out = (folder / "large").string();
  large.batch = accumulated.batch * accumulated.grad_accum;
  large.grad_accum = 1;
  train_quietly(accumulated);
  train_quietly(large);
  const auto a = read_metrics(folder / "accumulated/metrics.jsonl");
  const auto b = read_metrics(folder / "large/metrics.jsonl");
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i].loss, b[i].loss, 1e-5 * b[i].loss);
    EXPECT_NEAR(a[i].grad_norm, b[i].grad_norm, 1e-4 * b[i].grad_norm);
  }
}

TEST(Trainer, StopsBeforeTheOptimizerWhenTheLossIsNotFinite) {
  TempFolder folder;
  TrainConfig config = small_config(folder, "run");
  config.lr = 1e30;  // the first step throws the weights so far that the second loss cannot be finite
  config.min_lr = 0;
  config.warmup = 0;
  config.clip = 0;
  config.checkpoint_interval = 1;
  const std::string message = test::error_of<AutogradError>([&] { train_quietly(config); });
  EXPECT_THAT(message, ::testing::AnyOf(HasSubstr("the loss of step 2 is"), HasSubstr("at step 2 is not finite")));
  EXPECT_EQ(load_newest_checkpoint(config.out, true).state.step, 1);
}

TEST(Trainer, RefusesAResumeWithAnotherShape) {
  TempFolder folder;
  TrainConfig config = small_config(folder, "run");
  train_quietly(config);
  config.resume = true;
  config.width = 32;
  config.chosen = {"width"};
  EXPECT_EQ(
      test::error_of<ConfigError>([&] { train_quietly(config); }),
      "[resume] --width 32 differs from the checkpoint's 16: a model cannot change its shape; leave the flag out, or "
      "start a new run in another folder");
}

TEST(Trainer, ARunMayGoOnInAnotherDtype) {
  TempFolder folder;
  train_quietly(small_config(folder, "whole"));
  TrainConfig config = small_config(folder, "parts");
  train_quietly(config, {.after_step = [](std::int64_t step, double) { return step < 4; }});
  config.resume = true;
  config.dtype = "f64";
  config.chosen = {"dtype"};
  EXPECT_EQ(train_quietly(config).steps, 8);
  const Checkpoint last = load_newest_checkpoint(config.out, true);
  EXPECT_EQ(last.model.at("lm_head.weight").dtype(), DType::f64);
  const auto whole = read_metrics(folder / "whole/metrics.jsonl");
  const auto parts = read_metrics(folder / "parts/metrics.jsonl");
  ASSERT_EQ(whole.size(), parts.size());
  for (std::size_t i = 4; i < whole.size(); ++i) EXPECT_NEAR(whole[i].loss, parts[i].loss, 1e-5 * whole[i].loss);
}

TEST(Trainer, RefusesWhatItCannotComputeBeforeItWritesAnything) {
  TempFolder folder;
  TrainConfig config = small_config(folder, "run");
  config.device = "cuda:1000";
  EXPECT_THAT(test::error_of<DeviceError>([&] { train_quietly(config); }), HasSubstr("asked for"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

TEST(Trainer, LeavesDeterminismAsItWas) {
  TempFolder folder;
  TrainConfig config = small_config(folder, "run");
  config.deterministic = true;
  bool inside = false;
  train_quietly(config, {.after_step = [&](std::int64_t, double) { return inside = is_deterministic(); }});
  EXPECT_TRUE(inside);
  EXPECT_FALSE(is_deterministic());
}

TEST(Trainer, RefusesToOverwriteARun) {
  TempFolder folder;
  const TrainConfig config = small_config(folder, "run");
  train_quietly(config);
  EXPECT_THAT(test::error_of<ConfigError>([&] { train_quietly(config); }), HasSubstr("already holds a run"));
}

TEST(Checkpoint, ADamagedOneIsPassedOverForTheOneBefore) {
  TempFolder folder;
  TrainConfig config = small_config(folder, "run");
  train_quietly(config);
  const auto newest = folder / ("run/checkpoints/" + checkpoint_name(8) + "/model.safetensors");
  std::string bytes = read_file(newest);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  folder.add("run/checkpoints/" + checkpoint_name(8) + "/model.safetensors", bytes);
  std::string skipped;
  const Checkpoint c = load_newest_checkpoint(config.out, true, [&](std::string_view text) { skipped = text; });
  EXPECT_EQ(c.state.step, 4);
  EXPECT_THAT(skipped, HasSubstr("have changed since it was written"));
}

TEST(Checkpoint, TheBestMayShareItsFilesWithAStep) {
  TempFolder folder;
  const TrainConfig config = small_config(folder, "run");
  train_quietly(config);
  link_checkpoint(config.out, checkpoint_name(8), kBestCheckpoint);
  std::filesystem::remove_all(folder / ("run/checkpoints/" + checkpoint_name(8)));
  EXPECT_EQ(load_checkpoint(folder / "run/checkpoints/best", true).state.step, 8);
  EXPECT_THROW(link_checkpoint(config.out, "step-00000099", kBestCheckpoint), IoError);
  EXPECT_EQ(load_checkpoint(folder / "run/checkpoints/best", true).state.step, 8);
}

TEST(CheckpointSaver, WritesInTheBackgroundWhatTheTensorsWere) {
  TempFolder folder;
  CheckpointSaver saver(folder / "run", {.keep = 1, .in_background = true});
  TrainerState state;
  for (const std::int64_t step : {1, 2}) {
    state.step = step;
    saver.save({.step = true, .best = step == 1}, state, {{"a", full({3}, step)}}, {{"b", full({2}, -step)}});
  }
  saver.wait();
  EXPECT_EQ(list_checkpoints(folder / "run"), std::vector<std::string>{checkpoint_name(2)});
  const Checkpoint last = load_newest_checkpoint(folder / "run", true);
  EXPECT_EQ(last.model.at("a").to_vector<float>(), (std::vector<float>{2, 2, 2}));
  EXPECT_EQ(last.optimizer.at("b").to_vector<float>(), (std::vector<float>{-2, -2}));
  EXPECT_EQ(load_checkpoint(folder / "run/checkpoints/best", true).state.step, 1);
}

TEST(CheckpointSaver, ReportsWhatWentWrongInTheBackground) {
  TempFolder folder;
  folder.add("run", "a file where a folder should be");
  CheckpointSaver saver(folder / "run", {.in_background = true});
  const TrainerState state{.step = 1};
  saver.save({.step = true}, state, {{"a", zeros({3})}}, {});
  EXPECT_THROW(saver.save({.step = true}, state, {{"a", zeros({3})}}, {}), IoError);
  saver.save({.step = true}, state, {{"a", zeros({3})}}, {});
  EXPECT_THROW(saver.wait(), IoError);
  saver.wait();
}

TEST(Checkpoint, TensorsAreReadableAsPlainSafetensors) {
  TempFolder folder;
  train_quietly(small_config(folder, "run"));
  const auto file = SafetensorsFile::open(folder / ("run/checkpoints/" + checkpoint_name(8) + "/model.safetensors"));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.info("transformer.h.1.attn.c_attn.weight").shape, (std::vector<std::int64_t>{48, 16}));
}

TEST(Evaluate, AFullPassDoesNotDependOnTheBatch) {
  TempFolder folder;
  const DataSet data = DataSet::load({.path = folder.add("text.txt", small_text()).string()});
  Generator generator(5);
  nn::Gpt model({.vocab_size = data.vocab_size(),
                 .block_size = 16,
                 .layers = 1,
                 .heads = 2,
                 .width = 16,
                 .generator = &generator});
  const double three = evaluate(model, data, Split::validation, {.rows = 3, .block = 16, .iters = 0});
  const double seven = evaluate(model, data, Split::validation, {.rows = 7, .block = 16, .iters = 0});
  EXPECT_NEAR(three, seven, 1e-6);
  EXPECT_TRUE(model.is_training());
}

TEST(WriteText, StreamsWhatItReturnsAndRepeatsForTheSameSeed) {
  TempFolder folder;
  train_quietly(small_config(folder, "run"));
  SampleConfig sample{.run = (folder / "run").string(), .prompt = "the ", .tokens = 40};
  std::string streamed;
  const std::string text = write_text(sample, [&](std::string_view piece) {
    streamed += piece;
    return true;
  });
  EXPECT_EQ(text.size(), 40U);
  EXPECT_EQ(text, streamed);
  EXPECT_EQ(text, write_text(sample));
  sample.prompt = "\xc3\xa9";  // a character that the text does not have
  EXPECT_THAT(test::error_of<TokenizerError>([&] { write_text(sample); }), HasSubstr("U+00E9"));
}

}  // namespace
}  // namespace trinix::tools
