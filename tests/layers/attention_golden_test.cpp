// The attention layers and Llama against PyTorch: outputs and every gradient, in f64. tests/golden/make_layers.py says
// what was computed.
#include "support/compare.h"
#include "support/golden.h"

#include <functional>
#include <gtest/gtest.h>

#include <trinix/autograd/ops.h>
#include <trinix/layers/attention.h>
#include <trinix/layers/llama.h>

namespace trinix::nn {
namespace {

using trinix::testing::below;

constexpr TensorOptions kF64{DType::f64};
constexpr double kTolerance = 1e-12;

using trinix::testing::largest_difference;

struct GoldenLayer {
  std::string name;
  std::function<std::shared_ptr<AttentionLayer>()> make;
  /// The call on the case's inputs, by name.
  std::function<Tensor(const AttentionLayer&, const StateDict& inputs, const StateDict& all)> call;
};

Tensor self(const AttentionLayer& layer, const StateDict& inputs, const StateDict&) {
  return layer.forward(inputs.at("x"));
}

template <class L>
std::function<std::shared_ptr<AttentionLayer>()> maker(const AttentionLayerOptions& options) {
  return [options] { return std::make_shared<L>(options); };
}

std::vector<GoldenLayer> golden_layers() {
  return {
      {"mha_cross", maker<MultiHeadAttention>({.embed_dim = 8, .num_heads = 4, .kdim = 6, .vdim = 5, .tensor = kF64}),
       [](const AttentionLayer& layer, const StateDict& x, const StateDict& all) {
         return layer.forward(x.at("query"), x.at("key"), x.at("value"), {.mask = all.at("mask")});
       }},
      {"mha_zero",
       maker<MultiHeadAttention>(
           {.embed_dim = 8, .num_heads = 4, .causal = true, .add_zero_attn = true, .tensor = kF64}),
       self},
      {"self_packed",
       maker<MultiHeadSelfAttention>(
           {.embed_dim = 8, .num_heads = 4, .causal = true, .batch_first = false, .tensor = kF64}),
       self},
      {"gqa",
       maker<GroupedQueryAttention>({.embed_dim = 8,
                                     .num_heads = 4,
                                     .num_kv_heads = 2,
                                     .head_dim = 6,
                                     .causal = true,
                                     .position = Position::rope,
                                     .sliding_window = 2,
                                     .qk_norm = QkNorm::rms,
                                     .tensor = kF64}),
       [](const AttentionLayer& layer, const StateDict& x, const StateDict& all) {
         return layer.forward(x.at("x"), {.position_ids = all.at("position_ids")});
       }},
      {"mqa",
       maker<MultiQueryAttention>({.embed_dim = 8,
                                   .num_heads = 4,
                                   .bias = false,
                                   .causal = true,
                                   .position = Position::alibi,
                                   .qk_norm = QkNorm::layer,
                                   .tensor = kF64}),
       self},
      {"mla",
       maker<MultiHeadLatentAttention>({.embed_dim = 8,
                                        .num_heads = 4,
                                        .causal = true,
                                        .position = Position::rope,
                                        .latent_dim = 3,
                                        .query_latent_dim = 5,
                                        .tensor = kF64}),
       self},
      {"mla_decoupled",
       maker<MultiHeadLatentAttention>({.embed_dim = 8,
                                        .num_heads = 4,
                                        .head_dim = 3,
                                        .causal = true,
                                        .position = Position::rope,
                                        .latent_dim = 7,
                                        .query_latent_dim = 6,
                                        .rope_head_dim = 4,
                                        .value_head_dim = 5,
                                        .tensor = kF64}),
       self},
  };
}

class AttentionGolden : public ::testing::TestWithParam<GoldenLayer> {};

TEST_P(AttentionGolden, OutputAndGradients) {
  const StateDict all = below(trinix::testing::golden("attention_layers"), GetParam().name + "/");
  const auto layer = GetParam().make();
  layer->load_state_dict(below(all, "weight."));
  const StateDict inputs = below(all, "input.");
  for (const auto& [name, x] : inputs) Tensor(x).requires_grad_();
  const Tensor y = GetParam().call(*layer, inputs, all);
  EXPECT_LT(largest_difference(y, all.at("out")), kTolerance);
  y.backward(all.at("dout"));
  for (const auto& [name, x] : inputs) {
    EXPECT_LT(largest_difference(x.grad(), all.at("input_grad." + name)), kTolerance) << name;
  }
  for (const auto& [name, p] : layer->named_parameters()) {
    ASSERT_TRUE(p.grad().defined()) << name;
    EXPECT_LT(largest_difference(p.grad(), all.at("weight_grad." + name)), kTolerance) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(PyTorch, AttentionGolden, ::testing::ValuesIn(golden_layers()),
                         [](const auto& info) { return info.param.name; });

TEST(LlamaGolden, ForwardAndBackward) {
  const StateDict all = trinix::testing::golden("llama");
  Llama llama({.vocab_size = 11,
               .block_size = 6,
               .layers = 2,
               .heads = 4,
               .width = 12,
               .mlp_width = 10,
               .head_dim = 4,
               .kv_heads = 2,
               .rope_base = 500,
               .norm_eps = 1e-5,
               .tensor = kF64});
  llama.load_state_dict(below(all, "weight."));
  EXPECT_LT(largest_difference(llama.forward(all.at("ids")), all.at("logits")), kTolerance);
  const Tensor loss = llama.loss(all.at("ids"), all.at("targets"));
  EXPECT_NEAR(loss.item<double>(), all.at("loss").item<double>(), 1e-13);
  loss.backward();
  for (const auto& [name, p] : llama.named_parameters()) {
    EXPECT_LT(largest_difference(p.grad(), all.at("grad." + name)), kTolerance) << name;
  }
}

}  // namespace
}  // namespace trinix::nn
