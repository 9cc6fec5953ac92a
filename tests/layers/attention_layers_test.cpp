// What attention layers do besides computing: options, errors, positions of the user's own; and the faults of Trinix
// that must not come back.
#include "support/compare.h"
#include "support/errors.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention.h>
#include <trinix/layers/attention/make_attention.h>

namespace trinix::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using trinix::testing::message_of;

using trinix::testing::largest;

std::string refusal(AttentionKind kind, const AttentionLayerOptions& options) {
  return message_of<ConfigError>([&] { (void)make_attention(kind, options); });
}

TEST(AttentionLayers, HaveTheNamesOfTheirModels) {
  const auto names = [](const Module& module) {
    std::vector<std::string> list;
    for (const auto& p : module.named_parameters()) list.push_back(p.name);
    return list;
  };
  EXPECT_THAT(names(MultiHeadAttention({.embed_dim = 8, .num_heads = 2, .bias = false, .qk_norm = QkNorm::rms})),
              ElementsAre("q_norm.weight", "k_norm.weight", "q_proj.weight", "k_proj.weight", "v_proj.weight",
                          "o_proj.weight"));
  EXPECT_THAT(names(MultiHeadSelfAttention({.embed_dim = 8, .num_heads = 2})),
              ElementsAre("qkv_proj.weight", "qkv_proj.bias", "o_proj.weight", "o_proj.bias"));
  EXPECT_THAT(names(MultiHeadLatentAttention({.embed_dim = 8, .num_heads = 2, .bias = false})),
              ElementsAre("q_down_proj.weight", "q_up_proj.weight", "kv_down_proj.weight", "k_up_proj.weight",
                          "v_up_proj.weight", "o_proj.weight"));
  EXPECT_THAT(names(MultiHeadLatentAttention(
                  {.embed_dim = 8, .num_heads = 2, .bias = false, .query_latent_dim = 4, .rope_head_dim = 2})),
              ElementsAre("q_a_proj.weight", "q_a_layernorm.weight", "q_b_proj.weight", "kv_a_proj_with_mqa.weight",
                          "kv_a_layernorm.weight", "kv_b_proj.weight", "o_proj.weight"));
  EXPECT_EQ(MultiHeadLatentAttention({.embed_dim = 256, .num_heads = 2}).options().latent_dim, 32);
  EXPECT_EQ(MultiHeadLatentAttention({.embed_dim = 64, .num_heads = 2}).options().latent_dim, 16);
}

TEST(AttentionLayers, ErrorsOfOptionsNameTheNumbers) {
  const auto mha = AttentionKind::mha, gqa = AttentionKind::gqa, mqa = AttentionKind::mqa, mla = AttentionKind::mla;
  EXPECT_THAT(refusal(mha, {.embed_dim = 10, .num_heads = 3}), HasSubstr("3 heads do not divide an embed_dim of 10"));
  EXPECT_THAT(refusal(mha, {.embed_dim = 10}), HasSubstr("embed_dim 10, num_heads 0"));
  EXPECT_THAT(refusal(mha, {.embed_dim = 8, .num_heads = 4, .num_kv_heads = 2}), HasSubstr("num_kv_heads is 2, but 4"));
  EXPECT_THAT(refusal(mqa, {.embed_dim = 8, .num_heads = 4, .num_kv_heads = 2}), HasSubstr("num_kv_heads is 2, but 1"));
  EXPECT_THAT(refusal(gqa, {.embed_dim = 8, .num_heads = 4}), HasSubstr("num_kv_heads 0"));
  EXPECT_THAT(refusal(gqa, {.embed_dim = 8, .num_heads = 4, .num_kv_heads = 3}),
              HasSubstr("3 heads of keys and values cannot be shared evenly by 4"));
  EXPECT_THAT(refusal(mha, {.embed_dim = 8, .num_heads = 4, .sliding_window = -2}), HasSubstr("sliding_window of -2"));
  EXPECT_THAT(refusal(mha, {.embed_dim = 8, .num_heads = 4, .dropout = 1.5}), HasSubstr("1.5 is not between 0 and 1"));
  EXPECT_THAT(refusal(mha, {.embed_dim = 8, .num_heads = 4, .max_seq_len = 0}), HasSubstr("max_seq_len is 0"));
  EXPECT_THAT(refusal(mha, {.embed_dim = 9, .num_heads = 3, .position = Position::rope}), HasSubstr("3"));
  EXPECT_THAT(refusal(mha, {.embed_dim = 8, .num_heads = 4, .latent_dim = 4}), HasSubstr("latent_dim 4"));
  EXPECT_THAT(refusal(mla, {.embed_dim = 8, .num_heads = 4, .num_kv_heads = 2}), HasSubstr("num_kv_heads is 2"));
  EXPECT_THAT(refusal(mla, {.embed_dim = 8, .num_heads = 4, .value_head_dim = 3}), HasSubstr("value_head_dim of 3"));
  EXPECT_THAT(refusal(mla, {.embed_dim = 8, .num_heads = 4, .kdim = 6, .vdim = 7}), HasSubstr("kdim 6 and vdim 7"));
  EXPECT_THAT(refusal(mla, {.embed_dim = 8, .num_heads = 4, .qk_norm = QkNorm::rms, .rope_head_dim = 2}),
              HasSubstr("rope_head_dim of 2"));
  EXPECT_THAT(message_of<ConfigError>([] { MultiHeadSelfAttention({.embed_dim = 8, .num_heads = 4, .kdim = 6}); }),
              HasSubstr("kdim 6"));
  EXPECT_THAT(message_of<ConfigError>([] { (void)parse_attention_kind("flash"); }), HasSubstr("mha, gqa, mqa, mla"));
}

TEST(AttentionLayers, ErrorsOfCallsNameTheShapes) {
  const MultiHeadAttention layer({.embed_dim = 8, .num_heads = 2, .position = Position::rope, .max_seq_len = 5});
  const Tensor x = zeros({1, 4, 8});
  EXPECT_THAT(message_of<ShapeError>([&] {
                (void)layer.forward(zeros({4, 8}));
              }),
              HasSubstr("the query must be (batch, tokens, 8), got [4, 8]"));
  EXPECT_THAT(message_of<ShapeError>([&] { (void)layer.forward(x, x, zeros({1, 3, 8})); }), HasSubstr("[1, 3, 8]"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                (void)layer.forward(x, {.mask = zeros({4, 3}, {DType::boolean})});
              }),
              HasSubstr("[4, 3]"));
  EXPECT_THAT(message_of<IndexError>([&] { (void)layer.forward(zeros({1, 6, 8})); }), HasSubstr("5"));
  const Tensor far = from_vector<std::int64_t>({0, 1, 2, 9});
  EXPECT_THAT(message_of<IndexError>([&] { (void)layer.forward(x, {.position_ids = far}); }), HasSubstr("9"));
  const MultiHeadAttention alibi({.embed_dim = 8, .num_heads = 2, .position = Position::alibi});
  EXPECT_THAT(message_of<ConfigError>([&] { (void)alibi.forward(x, {.position_ids = far}); }), HasSubstr("[4]"));
  const MultiHeadSelfAttention packed({.embed_dim = 8, .num_heads = 2});
  EXPECT_THROW((void)packed.forward(x, zeros({1, 4, 8}), x), ConfigError);
  const MultiHeadLatentAttention latent({.embed_dim = 8, .num_heads = 2});
  EXPECT_THROW((void)latent.forward(x, x, zeros({1, 4, 8})), ConfigError);
}

/// The same weights in the packed layer and in the one with three projections.
TEST(AttentionLayers, PackedAndSeparateProjectionsAgree) {
  Generator g(1);
  for (const auto position : {Position::none, Position::rope, Position::alibi}) {
    for (const auto norm : {QkNorm::none, QkNorm::rms}) {
      for (const bool zero : {false, true}) {
        const AttentionLayerOptions options{.embed_dim = 12,
                                            .num_heads = 6,
                                            .num_kv_heads = 2,
                                            .causal = true,
                                            .position = position,
                                            .sliding_window = 4,
                                            .qk_norm = norm,
                                            .add_zero_attn = zero,
                                            .tensor = {DType::f64},
                                            .generator = &g};
        const GroupedQueryAttention separate(options);
        MultiHeadSelfAttention packed(options);
        StateDict state;
        const StateDict parts = separate.state_dict();
        for (const char* kind : {"weight", "bias"}) {
          const auto part = [&](const char* p) { return parts.at(std::string(p) + "_proj." + kind); };
          state.insert(std::string("qkv_proj.") + kind, cat({part("q"), part("k"), part("v")}, 0));
          state.insert(std::string("o_proj.") + kind, part("o"));
        }
        packed.load_state_dict(state, /*strict=*/false);
        const Tensor x = randn({2, 7, 12}, {DType::f64}, &g);
        EXPECT_LT(largest(packed.forward(x) - separate.forward(x)), 1e-13);
      }
    }
  }
}

/// Learned vectors added to the queries and keys, and a learned bias of the scores.
class OwnPositions : public PositionMethod {
 public:
  explicit OwnPositions(std::int64_t dim) {
    vectors_ = register_parameter("vectors", rand({16, 1, dim}, {DType::f64}));
    bias_ = register_parameter("bias", rand({16, 16}, {DType::f64}));
  }
  [[nodiscard]] std::pair<Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const TokenPlaces& q_places,
                                                  const TokenPlaces& k_places) const override {
    return {q + vectors_.narrow(0, q_places.first, q.size(1)), k + vectors_.narrow(0, k_places.first, k.size(1))};
  }
  [[nodiscard]] Tensor bias(std::int64_t queries, std::int64_t keys, const TensorOptions&) const override {
    return bias_.narrow(0, keys - queries, queries).narrow(1, 0, keys);
  }

 private:
  Tensor vectors_;
  Tensor bias_;
};

TEST(AttentionLayers, APositionMethodOfTheUsersOwn) {
  Generator g(6);
  for (const bool packed : {false, true}) {
    const AttentionLayerOptions options{.embed_dim = 8,
                                        .num_heads = 2,
                                        .causal = true,
                                        .position = std::make_shared<OwnPositions>(4),
                                        .tensor = {DType::f64},
                                        .generator = &g};
    std::shared_ptr<AttentionLayer> layer = std::make_shared<MultiHeadAttention>(options);
    if (packed) layer = std::make_shared<MultiHeadSelfAttention>(options);
    const Tensor x = randn({2, 6, 8}, {DType::f64}, &g);
    const Tensor mask = from_vector<bool>({true, true, false, true, true, true}).unsqueeze(0).expand({6, 6});
    const Tensor y = layer->forward(x, {.mask = mask});
    sum(y * randn(y.shape(), {DType::f64}, &g)).backward();
    bool trained = false;
    for (const auto& [name, p] : layer->named_parameters()) {
      ASSERT_TRUE(p.grad().defined()) << name;
      trained = trained || name == "position.vectors";
      // Moving all keys of a head alike changes no probability, so their bias alone has no gradient.
      if (name == "k_proj.bias") continue;
      EXPECT_GT(largest(p.grad()), 1e-8) << name;
    }
    EXPECT_TRUE(trained);
    const NoGrad no_grad;
    KvCache cache = layer->make_cache(2);
    (void)layer->forward(x.narrow(1, 0, 5), {.cache = &cache, .mask = mask.narrow(0, 0, 5).narrow(1, 0, 5)});
    cache.advance(5);
    const Tensor last = layer->forward(x.narrow(1, 5, 1), {.cache = &cache, .mask = mask.narrow(0, 5, 1)});
    EXPECT_LT(largest(last - y.detach().narrow(1, 5, 1)), 1e-13);
  }
}

/// A shared RoPE with options of its own.
TEST(AttentionLayers, ARopeOfTheUsersOwn) {
  Generator g(6);
  const auto rope = std::make_shared<RoPE>(RoPEOptions{.dim = 2, .max_positions = 16, .base = 100});
  AttentionLayerOptions options{.embed_dim = 8, .num_heads = 2, .position = rope, .generator = &g};
  const MultiHeadAttention own(options);
  options.position = Position::rope;
  MultiHeadAttention usual(options);
  usual.load_state_dict(own.state_dict());
  const Tensor x = randn({1, 6, 8}, {}, &g);
  EXPECT_GT(largest(own.forward(x) - usual.forward(x)), 1e-4);
}

// Trinix: its window without causal masking hides what lies ahead, in one of its kernels ------------------------------
TEST(TrinixFaults, AWindowReachesToBothSides) {
  Generator g(7);
  const MultiHeadAttention layer({.embed_dim = 8, .num_heads = 2, .sliding_window = 2, .generator = &g});
  const Tensor x = randn({1, 9, 8}, {}, &g);
  const Tensor y = layer.forward(x);
  for (const std::int64_t changed : {std::int64_t{0}, std::int64_t{4}, std::int64_t{8}}) {
    Tensor other = x.clone();
    other.narrow(1, changed, 1).copy_(randn({1, 1, 8}, {}, &g));
    const Tensor z = layer.forward(other);
    for (std::int64_t i = 0; i < 9; ++i) {
      const double difference = largest((y - z).narrow(1, i, 1));
      if (std::abs(i - changed) <= 2) {
        EXPECT_GT(difference, 1e-4) << i << " sees " << changed;
      } else {
        EXPECT_EQ(difference, 0) << i << " does not see " << changed;
      }
    }
  }
}

// Trinix: 0 * -inf in the masks of windows and of cached decoding ----------------------------------------------------
TEST(TrinixFaults, WindowsAndCachedMasksHoldNoNan) {
  Generator g(8);
  const NoGrad no_grad;
  for (const auto kind : {AttentionKind::mha, AttentionKind::mla}) {
    const auto layer =
        make_attention(kind, {.embed_dim = 8, .num_heads = 2, .causal = true, .sliding_window = 2, .generator = &g});
    const Tensor x = randn({1, 6, 8}, {}, &g);
    EXPECT_TRUE(all(isfinite(layer->forward(x))).item<bool>());
    KvCache cache = layer->make_cache();
    for (std::int64_t i = 0; i < 6; ++i) {
      EXPECT_TRUE(all(isfinite(layer->forward(x.narrow(1, i, 1), {.cache = &cache}))).item<bool>());
      cache.advance(1);
    }
  }
}

// Trinix: keys and values of grouped heads are repeated, and the output has no gradient in one of its kernels ---------
TEST(TrinixFaults, EveryKernelPassesGradientsToTheProjections) {
  Generator g(9);
  for (const auto kernel : {Kernel::automatic, Kernel::reference}) {
    const GroupedQueryAttention layer(
        {.embed_dim = 16, .num_heads = 4, .num_kv_heads = 2, .causal = true, .generator = &g, .kernel = kernel});
    const Tensor y = layer.forward(randn({2, 5, 16}, {}, &g));
    EXPECT_TRUE(y.requires_grad());
    sum(y * randn(y.shape(), {}, &g)).backward();
    for (const char* name : {"q_proj.weight", "k_proj.weight", "v_proj.weight"}) {
      for (const auto& p : layer.named_parameters()) {
        if (p.name != name) continue;
        EXPECT_GT(largest(p.tensor.grad()), 1e-4) << name;
      }
    }
  }
}

// Trinix: padding that holds NaN leaks through a mask ----------------------------------------------------------------
TEST(TrinixFaults, PaddingThatHoldsNanLeaksNothing) {
  Generator g(10);
  const MultiHeadAttention layer({.embed_dim = 8, .num_heads = 2, .generator = &g});
  const Tensor query = randn({1, 3, 8}, {}, &g);
  Tensor memory = randn({1, 5, 8}, {}, &g);
  const Tensor clean = layer.forward(query, memory.narrow(1, 0, 3), memory.narrow(1, 0, 3));
  memory.narrow(1, 3, 2).copy_(full({2, 8}, std::numeric_limits<double>::quiet_NaN()));
  const Tensor mask = from_vector<bool>({true, true, true, false, false}).unsqueeze(0).expand({3, 5});
  EXPECT_LT(largest(layer.forward(query, memory, memory, {.mask = mask}) - clean), 1e-6);
}

}  // namespace
}  // namespace trinix::nn
