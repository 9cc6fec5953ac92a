// Attention layers with a cache: token by token they give what they give all at once, whatever else is asked of them.
#include "support/compare.h"
#include "support/errors.h"
#include "support/on_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention.h>
#include <trinix/layers/attention/make_attention.h>

namespace trinix::nn {
namespace {

using ::testing::HasSubstr;
using trinix::testing::message_of;
using trinix::testing::test_devices;

constexpr std::int64_t kTokens = 13;

struct CacheCase {
  std::string name;
  AttentionKind kind;
  AttentionLayerOptions options;
};

std::vector<CacheCase> cases() {
  std::vector<CacheCase> list;
  const AttentionLayerOptions basic{.embed_dim = 24, .num_heads = 4, .causal = true, .max_seq_len = kTokens};
  const auto add = [&](const std::string& name, AttentionKind kind, auto change) {
    AttentionLayerOptions o = basic;
    if (kind == AttentionKind::gqa) o.num_kv_heads = 2;
    change(o);
    list.push_back({name, kind, o});
  };
  for (const auto kind : {AttentionKind::mha, AttentionKind::gqa, AttentionKind::mqa, AttentionKind::mla}) {
    const std::string prefix = std::string(name(kind)) + "_";
    add(prefix + "plain", kind, [](auto&) {});
    add(prefix + "rope", kind, [](auto& o) { o.position = Position::rope; });
    add(prefix + "alibi_window", kind, [](auto& o) {
      o.position = Position::alibi;
      o.sliding_window = 3;
    });
    add(prefix + "rope_norm_zero", kind, [](auto& o) {
      o.position = Position::rope;
      o.qk_norm = QkNorm::rms;
      o.add_zero_attn = true;
      o.batch_first = false;
    });
  }
  add("mla_decoupled", AttentionKind::mla, [](auto& o) {
    o.position = Position::rope;
    o.rope_head_dim = 4;
    o.value_head_dim = 5;
    o.latent_dim = 9;
    o.sliding_window = 4;
  });
  return list;
}

/// Tokens [first, first + count) of x, which is (B, T, C), or (T, B, C).
Tensor tokens_of(const AttentionLayer& layer, const Tensor& x, std::int64_t first, std::int64_t count) {
  return x.narrow(layer.options().batch_first ? 1 : 0, first, count);
}

using trinix::testing::largest;

void expect_steps_equal_whole(const AttentionLayer& layer, Device device) {
  Generator g(3);
  const NoGrad no_grad;
  const bool batch_first = layer.options().batch_first;
  const Tensor x = randn(batch_first ? Shape{2, kTokens, 24} : Shape{kTokens, 2, 24}, {DType::f32, device}, &g);
  const Tensor whole = layer.forward(x);
  KvCache cache = layer.make_cache(2);
  std::int64_t at = 0;
  for (const std::int64_t count : {4, 1, 1, 5, 2}) {
    const Tensor step = layer.forward(tokens_of(layer, x, at, count), {.cache = &cache});
    EXPECT_LT(largest(step - tokens_of(layer, whole, at, count)), 1e-5) << "at " << at;
    cache.advance(count);
    at += count;
  }
  EXPECT_EQ(cache.length(), kTokens);
  const std::string full =
      message_of<Error>([&] { (void)layer.forward(tokens_of(layer, x, 0, 1), {.cache = &cache}); });
  EXPECT_THAT(full, HasSubstr(std::to_string(kTokens)))
      << "the error of a full cache, or of a position beyond the table";
}

class CachedAttention : public ::testing::TestWithParam<CacheCase> {};

TEST_P(CachedAttention, StepByStepEqualsAllAtOnce) {
  for (const Device device : test_devices()) {
    SCOPED_TRACE(device.to_string());
    Generator g(2);
    AttentionLayerOptions options = GetParam().options;
    options.generator = &g;
    const auto layer = make_attention(GetParam().kind, options);
    layer->to(device);
    expect_steps_equal_whole(*layer, device);
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, CachedAttention, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

TEST(CachedAttention, PackedLayersToo) {
  Generator g(2);
  for (const auto position : {Position::none, Position::rope, Position::alibi}) {
    for (const std::int64_t kv_heads : {4, 2}) {
      const AttentionLayerOptions options{.embed_dim = 24,
                                          .num_heads = 4,
                                          .num_kv_heads = kv_heads,
                                          .causal = true,
                                          .position = position,
                                          .max_seq_len = kTokens,
                                          .generator = &g};
      expect_steps_equal_whole(MultiHeadSelfAttention(options), Device::cpu());
      expect_steps_equal_whole(CausalSelfAttention(options), Device::cpu());
    }
  }
}

/// Absorbing the projections of keys and values into queries and outputs changes rounding only.
TEST(CachedAttention, AbsorbedAndExpandedLatentsAgree) {
  Generator g(4);
  MultiHeadLatentAttention layer({.embed_dim = 24,
                                  .num_heads = 4,
                                  .causal = true,
                                  .position = Position::rope,
                                  .max_seq_len = kTokens,
                                  .latent_dim = 10,
                                  .query_latent_dim = 7,
                                  .rope_head_dim = 2,
                                  .tensor = {DType::f64},
                                  .generator = &g});
  const NoGrad no_grad;
  const Tensor x = randn({2, kTokens, 24}, {DType::f64}, &g);
  const Tensor whole = layer.forward(x);
  for (const auto absorb : {MultiHeadLatentAttention::Absorb::always, MultiHeadLatentAttention::Absorb::never}) {
    layer.set_absorb(absorb);
    KvCache cache = layer.make_cache(2);
    for (std::int64_t at = 0; at < kTokens; at += at == 0 ? 6 : 1) {
      const std::int64_t count = at == 0 ? 6 : 1;
      const Tensor step = layer.forward(x.narrow(1, at, count), {.cache = &cache});
      EXPECT_LT(largest(step - whole.narrow(1, at, count)), 1e-13) << "at " << at;
      cache.advance(count);
    }
  }
}

TEST(CachedAttention, ALatentLayerKeepsItsLatentOnly) {
  const std::int64_t batch = 2, tokens = 16, f32 = 4;
  const MultiHeadAttention plain({.embed_dim = 64, .num_heads = 4});
  EXPECT_EQ(plain.make_cache(batch, tokens).bytes(), batch * tokens * 2 * 64 * f32);
  const MultiHeadLatentAttention latent({.embed_dim = 64, .num_heads = 4, .latent_dim = 12});
  EXPECT_EQ(latent.make_cache(batch, tokens).bytes(), batch * tokens * 12 * f32);
  const MultiHeadLatentAttention decoupled({.embed_dim = 64, .num_heads = 4, .latent_dim = 12, .rope_head_dim = 6});
  EXPECT_EQ(decoupled.make_cache(batch, tokens).bytes(), batch * tokens * (12 + 6) * f32);
  // A shared head of keys is kept once, not once for every head of queries.
  const MultiQueryAttention shared({.embed_dim = 64, .num_heads = 4});
  EXPECT_EQ(shared.make_cache(batch, tokens).bytes(), batch * tokens * 2 * 16 * f32);
}

/// Sequences of one batch at different places, as after padding on the left.
TEST(CachedAttention, PositionsOfTheirOwn) {
  Generator g(5);
  const AttentionLayerOptions options{
      .embed_dim = 24, .num_heads = 4, .causal = true, .position = Position::rope, .max_seq_len = 40, .generator = &g};
  const NoGrad no_grad;
  const Tensor x = randn({2, 6, 24}, {}, &g);
  const Tensor ids = from_vector<std::int64_t>({7, 8, 9, 10, 11, 12, 0, 1, 2, 3, 4, 5}, {2, 6});
  for (const auto kind : {AttentionKind::mha, AttentionKind::mla}) {
    const auto layer = make_attention(kind, options);
    const Tensor whole = layer->forward(x, {.position_ids = ids});
    EXPECT_LT(largest(whole - layer->forward(x)), 1e-5) << "RoPE depends on differences alone";
    KvCache cache = layer->make_cache(2);
    (void)layer->forward(x.narrow(1, 0, 4), {.cache = &cache, .position_ids = ids.narrow(1, 0, 4)});
    cache.advance(4);
    AttentionCall call{.cache = &cache, .position_ids = ids.narrow(1, 4, 2)};
    if (kind == AttentionKind::mla) {
      EXPECT_THAT(
          message_of<ConfigError>([&] { (void)layer->forward(x.narrow(1, 4, 2), call); }),
          HasSubstr("positions were given for 2 new tokens, but a cache of latents does not hold those of the 4"));
      call.key_position_ids = ids;
    }
    EXPECT_LT(largest(layer->forward(x.narrow(1, 4, 2), call) - whole.narrow(1, 4, 2)), 1e-5);
  }
}

TEST(CachedAttention, RefusesToCutGradientsOff) {
  for (const auto kind : {AttentionKind::mha, AttentionKind::mla}) {
    const auto layer = make_attention(kind, {.embed_dim = 8, .num_heads = 2});
    KvCache cache = layer->make_cache(1, 4);
    EXPECT_THAT(message_of<AutogradError>([&] {
                  (void)layer->forward(zeros({1, 2, 8}), {.cache = &cache});
                }),
                HasSubstr("decode under NoGrad"));
  }
}

}  // namespace
}  // namespace trinix::nn
