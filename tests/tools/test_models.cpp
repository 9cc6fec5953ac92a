// Every choice of model, attention and position that the program offers: it trains, resumes bit for bit, and writes.
#include "small_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/layers/gpt.h>
#include <trinix/layers/llama.h>
#include <trinix/tools/lib/checkpoint.h>
#include <trinix/tools/lib/metrics.h>
#include <trinix/tools/lib/model.h>
#include <trinix/tools/lib/trainer.h>
#include <trinix/tools/lib/write_text.h>

namespace trinix::tools {
namespace {

using test::expect_same_file;
using test::small_config;
using test::TempFolder;
using test::train_quietly;
using ::testing::HasSubstr;

struct ModelChoice {
  std::string name;
  void (*choose)(TrainConfig&);
};

const ModelChoice kChoices[] = {
    {"llama",
     [](TrainConfig& c) {
       c.model = "llama";
       c.bias = true;
     }},
    {"llama_gqa_window_norm",
     [](TrainConfig& c) {
       c.model = "llama";
       c.attention = "gqa";
       c.kv_heads = 1;
       c.window = 5;
       c.qk_norm = "rms";
       c.tied_head = false;
     }},
    {"llama_mqa_alibi",
     [](TrainConfig& c) {
       c.model = "llama";
       c.attention = "mqa";
       c.position = "alibi";
     }},
    {"llama_mla",
     [](TrainConfig& c) {
       c.model = "llama";
       c.attention = "mla";
       c.latent = 6;
     }},
    {"llama_mla_decoupled",
     [](TrainConfig& c) {
       c.model = "llama";
       c.attention = "mla";
       c.latent = 6;
       c.rope_head_dim = 4;
     }},
    {"gpt_gqa_rope",
     [](TrainConfig& c) {
       c.attention = "gqa";
       c.kv_heads = 1;
       c.position = "rope";
       c.qk_norm = "layer";
     }},
    {"gpt_mla", [](TrainConfig& c) { c.attention = "mla"; }},
    {"gpt_none", [](TrainConfig& c) { c.position = "none"; }},
};

class ModelChoices : public ::testing::TestWithParam<ModelChoice> {};

TEST_P(ModelChoices, TrainsResumesAndWrites) {
  TempFolder folder;
  TrainConfig whole = small_config(folder, "whole");
  whole.grad_accum = 1;
  GetParam().choose(whole);
  TrainConfig parts = whole;
  parts.out = (folder / "parts").string();
  EXPECT_FALSE(train_quietly(whole).sample.empty());
  train_quietly(parts, {.after_step = [](std::int64_t step, double) { return step < 4; }});
  // What is not named again comes from the checkpoint.
  TrainConfig resumed = small_config(folder, "parts");
  resumed.resume = true;
  EXPECT_EQ(train_quietly(resumed).steps, 8);
  const std::string last = "checkpoints/" + checkpoint_name(8);
  for (const char* file : {"/model.safetensors", "/optimizer.safetensors"}) {
    expect_same_file(folder / ("whole/" + last + file), folder / ("parts/" + last + file));
  }
  const SampleConfig sample{.run = whole.out, .prompt = "the ", .tokens = 20};
  EXPECT_EQ(write_text(sample).size(), 20U);
}

INSTANTIATE_TEST_SUITE_P(Program, ModelChoices, ::testing::ValuesIn(kChoices),
                         [](const auto& info) { return info.param.name; });

TEST(ModelChoices, AreWhatTheySay) {
  TrainConfig c;
  EXPECT_EQ(describe_model(c), "gpt");
  const auto gpt = make_model(c, 65);
  EXPECT_NE(dynamic_cast<const nn::Gpt*>(gpt.get()), nullptr);
  EXPECT_TRUE(gpt->state_dict().contains("transformer.wpe.weight"));
  c.position = "rope";
  EXPECT_FALSE(make_model(c, 65)->state_dict().contains("transformer.wpe.weight"));
  c.model = "llama";
  c.attention = "gqa";
  c.kv_heads = 2;
  c.window = 64;
  c.qk_norm = "rms";
  EXPECT_EQ(describe_model(c), "llama with gqa (2 heads of keys), rope, window 64, rms norm of queries and keys");
  const auto llama = make_model(c, 65);
  EXPECT_EQ(llama->state_dict().at("model.layers.3.self_attn.k_proj.weight").shape(), (Shape{64, 128}));
  EXPECT_TRUE(llama->state_dict().contains("model.layers.0.self_attn.q_norm.weight"));
}

TEST(ModelChoices, AShapeCannotChangeOnResume) {
  TempFolder folder;
  train_quietly(small_config(folder, "run"));
  TrainConfig config = small_config(folder, "run");
  config.resume = true;
  config.model = "llama";
  config.chosen = {"model"};
  EXPECT_THAT(test::error_of<ConfigError>([&] { train_quietly(config); }),
              HasSubstr("--model llama differs from the checkpoint's gpt"));
}

std::string refusal(void (*change)(TrainConfig&)) {
  TrainConfig c;
  change(c);
  return test::error_of<ConfigError>([&] { validate(c); });
}

TEST(ModelChoices, RefusesWhatDoesNotGoTogether) {
  EXPECT_THAT(refusal([](TrainConfig& c) { c.model = "bert"; }),
              HasSubstr("there is no model 'bert': choose one of gpt, llama"));
  EXPECT_THAT(refusal([](TrainConfig& c) { c.attention = "flash"; }),
              HasSubstr("there is no attention 'flash': choose one of mha, gqa, mqa, mla"));
  EXPECT_THAT(refusal([](TrainConfig& c) { c.position = "sin"; }), HasSubstr("there is no position 'sin': choose"));
  EXPECT_THAT(refusal([](TrainConfig& c) { c.qk_norm = "batch"; }),
              HasSubstr("there is no qk-norm 'batch': choose one of none, rms, layer"));
  EXPECT_THAT(refusal([](TrainConfig& c) { c.attention = "gqa"; }), HasSubstr("--kv-heads 0 must be given"));
  EXPECT_THAT(refusal([](TrainConfig& c) {
                c.attention = "gqa";
                c.kv_heads = 3;
              }),
              HasSubstr("--kv-heads 3 must be given and divide --heads 4"));
  EXPECT_THAT(refusal([](TrainConfig& c) { c.kv_heads = 2; }),
              HasSubstr("--kv-heads 2 needs --attention gqa, not mha"));
  EXPECT_THAT(refusal([](TrainConfig& c) { c.latent = 8; }), HasSubstr("--latent 8"));
  EXPECT_THAT(refusal([](TrainConfig& c) { c.window = -1; }), HasSubstr("--window must be at least 0, not -1"));
  EXPECT_THAT(refusal([](TrainConfig& c) {
                c.model = "llama";
                c.position = "learned";
              }),
              HasSubstr("--position learned is for --model gpt"));
  EXPECT_THAT(refusal([](TrainConfig& c) {
                c.position = "rope";
                c.width = 36;
              }),
              HasSubstr("a head has 9"));
}

}  // namespace
}  // namespace trinix::tools
