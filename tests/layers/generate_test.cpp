#include "support/errors.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/core/kernel.h>
#include <trinix/layers/generate.h>
#include <trinix/layers/gpt.h>
#include <trinix/layers/llama.h>

namespace trinix::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using trinix::testing::message_of;

/// A model with large weights, so that its choices are far apart.
std::unique_ptr<Gpt> model(Generator& g) {
  return std::make_unique<Gpt>(GptConfig{.vocab_size = 31,
                                         .block_size = 16,
                                         .layers = 2,
                                         .heads = 2,
                                         .width = 16,
                                         .dropout = 0.5,
                                         .init_std = 0.5,
                                         .generator = &g});
}

TEST(KvCache, StepByStepEqualsAllAtOnce) {
  Generator g(1);
  const auto gpt = model(g);
  gpt->eval();
  const NoGrad no_grad;
  const Tensor ids = randint(0, 31, {3, 16}, {DType::i64}, &g);
  const Tensor whole = gpt->forward(ids);
  KvCache cache = gpt->make_cache(3);
  std::int64_t at = 0;
  for (const std::int64_t tokens : {5, 1, 1, 4, 2, 3}) {  // one at a time and several, at every kind of offset
    const Tensor logits = gpt->forward(ids.narrow(1, at, tokens), {.cache = &cache});
    EXPECT_LT(max(abs(logits - whole.narrow(1, at, tokens))).item<float>(), 2e-4) << "at " << at;
    at += tokens;
    EXPECT_EQ(cache.length(), at);
  }
  cache.truncate(7);
  const Tensor again = gpt->forward(ids.narrow(1, 7, 2), {.cache = &cache});
  EXPECT_LT(max(abs(again - whole.narrow(1, 7, 2))).item<float>(), 2e-4);
}

TEST(KvCache, AForwardThatThrowsLeavesItAsItWas) {
  Generator g(1);
  const auto gpt = model(g);
  KvCache cache = gpt->make_cache(1, 4);
  const NoGrad no_grad;
  (void)gpt->forward(zeros({1, 3}, {DType::i64}), {.cache = &cache});
  EXPECT_THAT(message_of<ConfigError>([&] {
                (void)gpt->forward(zeros({1, 2}, {DType::i64}), {.cache = &cache});
              }),
              HasSubstr("2 tokens behind the 3 held exceed the capacity of 4"));
  EXPECT_THROW((void)gpt->forward(full({1, 1}, 99, {DType::i64}), {.cache = &cache}), IndexError);
  EXPECT_EQ(cache.length(), 3);
}

TEST(KvCache, RefusesToCutGradientsOff) {
  Generator g(1);
  const auto gpt = model(g);
  KvCache cache = gpt->make_cache();
  const std::string text = message_of<AutogradError>([&] {
    (void)gpt->forward(zeros({1, 3}, {DType::i64}), {.cache = &cache});
  });
  EXPECT_THAT(text, HasSubstr("decode under NoGrad"));
}

TEST(KvCache, Errors) {
  EXPECT_THAT(message_of<ConfigError>([] { KvCache({.layers = 1, .capacity = 4, .heads = 2}); }),
              HasSubstr("head_dim 0"));
  KvCache cache({.layers = 1, .capacity = 4, .heads = 2, .head_dim = 3});
  const Tensor good = zeros({1, 1, 2, 3});
  EXPECT_THAT(message_of<ShapeError>([&] { cache.append(0, good, zeros({1, 1, 2, 4})); }), HasSubstr("[1, 1, 2, 4]"));
  EXPECT_THAT(message_of<IndexError>([&] { cache.append(1, good, good); }), HasSubstr("layer 1"));
  EXPECT_THROW(cache.truncate(1), ConfigError);
  EXPECT_THROW(cache.advance(5), ConfigError);
}

/// Models of every kind of attention and position, with large weights too.
std::vector<std::pair<const char*, std::unique_ptr<LanguageModel>>> models(Generator& g) {
  std::vector<std::pair<const char*, std::unique_ptr<LanguageModel>>> list;
  list.emplace_back("gpt", model(g));
  GptConfig gpt{
      .vocab_size = 31, .block_size = 16, .layers = 2, .heads = 2, .width = 16, .init_std = 0.5, .generator = &g};
  gpt.attention = AttentionKind::mla;
  gpt.position = Position::rope;
  gpt.learned_positions = false;
  list.emplace_back("gpt with latent attention", std::make_unique<Gpt>(gpt));
  const LlamaConfig llama{.vocab_size = 31,
                          .block_size = 16,
                          .layers = 2,
                          .heads = 4,
                          .width = 16,
                          .kv_heads = 2,
                          .dropout = 0.5,
                          .init_std = 0.5,
                          .generator = &g};
  list.emplace_back("llama", std::make_unique<Llama>(llama));
  LlamaConfig changed = llama;
  changed.position = Position::alibi;
  changed.sliding_window = 3;
  changed.qk_norm = QkNorm::rms;
  list.emplace_back("llama with ALiBi and a window", std::make_unique<Llama>(changed));
  changed = llama;
  changed.attention = AttentionKind::mla;
  changed.kv_heads = 0;
  list.emplace_back("llama with latent attention", std::make_unique<Llama>(changed));
  changed.rope_head_dim = 2;
  list.emplace_back("llama with decoupled latent attention", std::make_unique<Llama>(changed));
  return list;
}

TEST(Generate, WithAndWithoutCacheAgreeAlsoBeyondTheBlock) {
  Generator g(1);
  const std::vector<std::int64_t> prompt = {3, 1, 4, 1, 5};
  for (const auto& [name, subject] : models(g)) {
    SCOPED_TRACE(name);
    for (const double temperature : {0.0, 1.0}) {
      Generator a(8), b(8);
      const SamplingOptions sampling{.temperature = temperature};
      const auto cached = generate(*subject, prompt, {.max_new_tokens = 40, .sampling = sampling, .generator = &a});
      const auto plain =
          generate(*subject, prompt, {.max_new_tokens = 40, .sampling = sampling, .generator = &b, .use_cache = false});
      EXPECT_EQ(cached.size(), 40U);
      EXPECT_EQ(cached, plain);
    }
    EXPECT_TRUE(subject->is_training());
  }
}

TEST(Generate, WithAndWithoutCacheAgreeOnACardInHalfPrecision) {
  if (!is_available(Device::cuda())) GTEST_SKIP() << "needs a card";
  Generator g(5);
  LlamaConfig config{.vocab_size = 31,
                     .block_size = 96,
                     .layers = 2,
                     .heads = 8,
                     .width = 128,
                     .kv_heads = 2,
                     .init_std = 0.1,
                     .generator = &g};
  std::vector<std::int64_t> prompt;
  for (std::int64_t i = 0; i < 20; ++i) prompt.push_back(i * 7 % 31);
  for (const bool biased : {false, true}) {
    SCOPED_TRACE(biased);
    if (biased) {
      config.position = Position::alibi;
      config.sliding_window = 40;
    }
    Llama llama(config);
    llama.to(Device::cuda());
    llama.to(DType::f16);
    const auto cached = generate(llama, prompt, {.max_new_tokens = 60, .sampling = {.temperature = 0}});
    EXPECT_EQ(last_kernel("attention"), "cuda_decode");
    const auto plain =
        generate(llama, prompt, {.max_new_tokens = 60, .sampling = {.temperature = 0}, .use_cache = false});
    EXPECT_NE(last_kernel("attention"), "cuda_decode");
    EXPECT_EQ(cached, plain);
  }
}

TEST(Generate, StopsWhereItIsTold) {
  Generator g(1);
  const auto gpt = model(g);
  const GenerateOptions greedy{.max_new_tokens = 8, .sampling = {.temperature = 0}};
  const auto text = generate(*gpt, {1, 2}, greedy);
  std::vector<std::int64_t> seen;
  GenerateOptions streaming = greedy;
  streaming.on_token = [&](std::int64_t token) {
    seen.push_back(token);
    return seen.size() < 3;
  };
  EXPECT_EQ(generate(*gpt, {1, 2}, streaming), seen);
  EXPECT_EQ(seen.size(), 3U);
  GenerateOptions stopping = greedy;
  stopping.stop_token = text[4];
  const auto stopped = generate(*gpt, {1, 2}, stopping);
  EXPECT_EQ(stopped.back(), text[4]);
  EXPECT_LE(stopped.size(), 5U);
}

TEST(Generate, Errors) {
  Generator g(1);
  const auto gpt = model(g);
  EXPECT_THAT(message_of<ConfigError>([&] { (void)generate(*gpt, {}); }), HasSubstr("prompt is empty"));
  EXPECT_THAT(message_of<IndexError>([&] { (void)generate(*gpt, {31}); }), HasSubstr("31"));
  EXPECT_THROW((void)generate(*gpt, {1}, {.max_new_tokens = -1}), ConfigError);
  EXPECT_THROW((void)generate(*gpt, {1}, {.sampling = {.top_p = 0}}), ConfigError);
  EXPECT_TRUE(gpt->is_training());
}

TEST(SampleToken, DrawsWithTheProbabilitiesOfTheSoftmax) {
  Generator g(1);
  const std::vector<float> logits = {std::log(1.F), std::log(2.F), std::log(5.F), -INFINITY};
  std::vector<int> counts(4);
  for (int i = 0; i < 8000; ++i) ++counts[static_cast<std::size_t>(sample_token(logits, {}, g))];
  EXPECT_NEAR(counts[0], 1000, 120);
  EXPECT_NEAR(counts[1], 2000, 160);
  EXPECT_NEAR(counts[2], 5000, 180);
  EXPECT_EQ(counts[3], 0);
}

std::vector<bool> reachable(const std::vector<float>& logits, const SamplingOptions& options) {
  Generator g(2);
  std::vector<bool> seen(logits.size());
  for (int i = 0; i < 3000; ++i) seen[static_cast<std::size_t>(sample_token(logits, options, g))] = true;
  return seen;
}

TEST(SampleToken, KeepsToTopKAndTopP) {
  const std::vector<float> logits = {std::log(2.F), std::log(1.F), std::log(4.F), std::log(3.F)};
  EXPECT_THAT(reachable(logits, {}), ElementsAre(true, true, true, true));
  EXPECT_THAT(reachable(logits, {.top_k = 2}), ElementsAre(false, false, true, true));
  EXPECT_THAT(reachable(logits, {.top_k = 99}), ElementsAre(true, true, true, true));
  EXPECT_THAT(reachable(logits, {.top_p = 0.39}), ElementsAre(false, false, true, false));
  EXPECT_THAT(reachable(logits, {.top_p = 0.45}), ElementsAre(false, false, true, true));
  EXPECT_THAT(reachable(logits, {.top_k = 3, .top_p = 0.9}), ElementsAre(true, false, true, true));
  EXPECT_THAT(reachable(logits, {.temperature = 0.01}), ElementsAre(false, false, true, false));
  EXPECT_THAT(reachable({1, 2, 2, 0}, {.top_k = 1}), ElementsAre(false, true, false, false));
}

TEST(SampleToken, TemperatureZeroIsGreedyAndDrawsNothing) {
  Generator g(2);
  EXPECT_EQ(sample_token(std::vector<float>{0, 3, 1, 3}, {.temperature = 0}, g), 1);
  EXPECT_EQ(g.state().offset, 0U);
}

TEST(SampleToken, Errors) {
  Generator g(2);
  const auto text = [&](std::vector<float> logits, SamplingOptions options) {
    return message_of<ConfigError>([&] { (void)sample_token(logits, options, g); });
  };
  EXPECT_THAT(text({1, 2}, {.temperature = -1}), HasSubstr("temperature is -1"));
  EXPECT_THAT(text({1, 2}, {.temperature = std::nan("")}), HasSubstr("temperature is nan"));
  EXPECT_THAT(text({1, 2}, {.top_k = -1}), HasSubstr("top_k is -1"));
  EXPECT_THAT(text({1, 2}, {.top_p = 1.5}), HasSubstr("top_p is 1.5"));
  EXPECT_THAT(text({}, {}), HasSubstr("no logits"));
  EXPECT_THAT(text({1, std::nanf("")}, {}), HasSubstr("NaN"));
  EXPECT_THAT(text({-INFINITY, -INFINITY}, {}), HasSubstr("-inf"));
}

}  // namespace
}  // namespace trinix::nn
