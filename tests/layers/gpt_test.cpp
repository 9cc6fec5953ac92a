#include "support/errors.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/core/threads.h>
#include <trinix/layers/gpt.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>

namespace trinix::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using trinix::testing::message_of;

GptConfig small_config() {
  return {.vocab_size = 65, .block_size = 32, .layers = 2, .heads = 4, .width = 32, .dropout = 0.1};
}

TEST(Gpt, HasTheNamesOfNanoGpt) {
  GptConfig config = small_config();
  config.layers = 1;
  std::vector<std::string> names;
  for (const auto& entry : Gpt(config).state_dict()) names.push_back(entry.name);
  EXPECT_THAT(names, ElementsAre("transformer.wte.weight", "transformer.wpe.weight",          //
                                 "transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.bias",  //
                                 "transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.bias",
                                 "transformer.h.0.attn.c_proj.weight", "transformer.h.0.attn.c_proj.bias",
                                 "transformer.h.0.ln_2.weight", "transformer.h.0.ln_2.bias",  //
                                 "transformer.h.0.mlp.c_fc.weight", "transformer.h.0.mlp.c_fc.bias",
                                 "transformer.h.0.mlp.c_proj.weight", "transformer.h.0.mlp.c_proj.bias",
                                 "transformer.ln_f.weight", "transformer.ln_f.bias", "lm_head.weight"));
}

TEST(Gpt, CountsParametersOfThePresets) {
  const GptConfig shakespeare_char{
      .vocab_size = 65, .block_size = 256, .layers = 6, .heads = 6, .width = 384, .dropout = 0.2, .bias = false};
  const Gpt gpt(shakespeare_char);
  EXPECT_EQ(gpt.num_parameters(), 10'745'088);  // 10.65 M without the 256 x 384 positions
  std::int64_t decayed = 0;
  for (const auto& p : gpt.named_parameters()) decayed += p.tensor.rank() >= 2 ? p.tensor.numel() : 0;
  EXPECT_EQ(gpt.num_parameters() - decayed, 13 * 384);
}

TEST(Gpt, StartsAsGpt2Does) {
  Generator g(1);
  GptConfig config = small_config();
  config.width = 128;
  config.layers = 8;
  config.generator = &g;
  const Gpt gpt(config);
  for (const auto& [name, p] : gpt.named_parameters()) {
    const auto values = p.to(DType::f64);
    if (name.ends_with("bias")) {
      EXPECT_EQ(max(abs(values)).item<double>(), 0) << name;
    } else if (p.rank() == 1) {
      EXPECT_EQ(max(abs(values - 1.0)).item<double>(), 0) << name;
    } else {
      const double wanted = name.ends_with("c_proj.weight") ? 0.02 / 4 : 0.02;
      EXPECT_NEAR(std::sqrt(var(values).item<double>()) / wanted, 1, 0.05) << name;
      EXPECT_NEAR(mean(values).item<double>() / wanted, 0, 0.06) << name;
    }
  }
}

TEST(Gpt, FirstLossIsThatOfGuessing) {
  Gpt gpt(small_config());
  gpt.eval();
  Generator g(2);
  const Tensor ids = randint(0, 65, {8, 32}, {DType::i64}, &g);
  const Tensor logits = gpt.forward(ids);
  EXPECT_EQ(logits.shape(), (Shape{8, 32, 65}));
  EXPECT_NEAR(gpt.loss(ids, randint(0, 65, {8, 32}, {DType::i64}, &g)).item<float>(), std::log(65.0), 0.1);
  const Tensor narrow_ids = ids.to(DType::i32);
  EXPECT_EQ(gpt.forward(narrow_ids).to_doubles(), logits.to_doubles());
  const Tensor last = gpt.forward(ids, {.last_only = true});
  EXPECT_EQ(last.shape(), (Shape{8, 1, 65}));
  EXPECT_LT(max(abs(last - logits.narrow(1, 31, 1))).item<float>(), 1e-5);
}

/// Losses of a few training steps with dropout.
std::vector<double> train(std::uint64_t seed, int steps) {
  Generator g(seed);
  GptConfig config = small_config();
  config.generator = &g;
  Gpt gpt(config);
  optim::AdamW optimizer(optim::decay_groups(gpt, optim::AdamWOptions{.lr = 3e-3, .weight_decay = 0.1}));
  std::vector<double> losses;
  for (int i = 0; i < steps; ++i) {
    // Sequences that count upwards: learnable at once.
    const Tensor start = randint(0, 65, {8, 1}, {DType::i64}, &g);
    const Tensor text = start + arange(33);
    const Tensor ids = text - floor(text.to(DType::f64) / 65.0).to(DType::i64) * 65;
    optimizer.zero_grad();
    const Tensor loss = gpt.loss(ids.narrow(1, 0, 32), ids.narrow(1, 1, 32));
    loss.backward();
    const double norm = optim::grad_norm(optimizer.parameters());
    optimizer.step({.grad_scale = optim::clip_scale(norm, 1.0)});
    losses.push_back(loss.item<float>());
  }
  EXPECT_TRUE(optimizer.without_grad().empty());
  return losses;
}

TEST(Gpt, Learns) {
  const auto losses = train(1, 120);
  EXPECT_GT(losses.front(), 4.0);
  EXPECT_LT(losses.back(), 1.0);
}

TEST(Gpt, TheSameSeedGivesTheSameBits) {
  EXPECT_EQ(train(7, 12), train(7, 12));
  EXPECT_NE(train(7, 2), train(8, 2));
}

TEST(Gpt, TheNumberOfThreadsChangesRoundingOnly) {
  set_num_threads(1);
  const auto one = train(7, 8);
  set_num_threads(2);
  const auto two = train(7, 8);
  set_num_threads(0);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], two[i], 2e-4) << "step " << i;
}

TEST(Gpt, LossAtTheStartDoesNotDependOnDtypeMuch) {
  Generator g(3);
  GptConfig config = small_config();
  config.generator = &g;
  Gpt gpt(config);
  gpt.eval();
  const Tensor ids = randint(0, 65, {2, 32}, {DType::i64}, &g), targets = randint(0, 65, {2, 32}, {DType::i64}, &g);
  const float wide = gpt.loss(ids, targets).item<float>();
  gpt.to(DType::bf16);
  const Tensor loss = gpt.loss(ids, targets);
  EXPECT_EQ(loss.dtype(), DType::f32);
  EXPECT_NEAR(loss.item<float>(), wide, 0.02);
  loss.backward();
  for (const auto& [name, p] : gpt.named_parameters()) {
    ASSERT_TRUE(p.grad().defined()) << name;
    EXPECT_EQ(p.grad().dtype(), DType::bf16) << name;
  }
}

TEST(Gpt, ConfigErrorsNameTheValue) {
  const auto refused = [](auto change) {
    GptConfig config = small_config();
    change(config);
    return message_of<ConfigError>([&] { Gpt gpt(config); });
  };
  EXPECT_THAT(refused([](GptConfig& c) { c.heads = 5; }), HasSubstr("5 heads do not divide a width of 32"));
  EXPECT_THAT(refused([](GptConfig& c) { c.heads = 0; }), HasSubstr("heads is 0"));
  EXPECT_THAT(refused([](GptConfig& c) { c.vocab_size = 0; }), HasSubstr("vocab_size is 0"));
  EXPECT_THAT(refused([](GptConfig& c) { c.block_size = -1; }), HasSubstr("block_size is -1"));
  EXPECT_THAT(refused([](GptConfig& c) { c.layers = 0; }), HasSubstr("layers is 0"));
  EXPECT_THAT(refused([](GptConfig& c) { c.mlp_width = -4; }), HasSubstr("MLP is -4"));
  EXPECT_THAT(refused([](GptConfig& c) { c.dropout = 1; }), HasSubstr("dropout is 1"));
  EXPECT_THAT(refused([](GptConfig& c) { c.dropout = std::nan(""); }), HasSubstr("dropout is nan"));
  EXPECT_THAT(refused([](GptConfig& c) { c.norm_eps = 0; }), HasSubstr("norm_eps is 0"));
}

TEST(Gpt, InputErrors) {
  Gpt gpt(small_config());
  EXPECT_THAT(message_of<ShapeError>([&] {
                (void)gpt.forward(zeros({1, 33}, {DType::i64}));
              }),
              HasSubstr("33 tokens behind 0 cached ones exceed the block size of 32"));
  EXPECT_THAT(message_of<ShapeError>([&] { (void)gpt.forward(zeros({33}, {DType::i64})); }), HasSubstr("got [33]"));
  EXPECT_THAT(message_of<ShapeError>([&] { (void)gpt.forward(zeros({0, 4}, {DType::i64})); }), HasSubstr("[0, 4]"));
  EXPECT_THAT(message_of<IndexError>([&] { (void)gpt.forward(full({1, 4}, 65, {DType::i64})); }), HasSubstr("65"));
  EXPECT_THROW((void)gpt.forward(zeros({1, 4})), DtypeError);
}

}  // namespace
}  // namespace trinix::nn
