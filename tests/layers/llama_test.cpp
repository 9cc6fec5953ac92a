#include "support/errors.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/layers/llama.h>
#include <trinix/optim/adamw.h>

namespace trinix::nn {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
using trinix::testing::message_of;

LlamaConfig small_config() {
  return {.vocab_size = 65, .block_size = 32, .layers = 2, .heads = 4, .width = 32, .kv_heads = 2, .dropout = 0.1};
}

TEST(Llama, HasTheNamesOfHuggingFace) {
  LlamaConfig config = small_config();
  config.layers = 1;
  std::vector<std::string> names;
  for (const auto& entry : Llama(config).state_dict()) names.push_back(entry.name);
  const std::string block = "model.layers.0.";
  EXPECT_THAT(names, UnorderedElementsAre("model.embed_tokens.weight", block + "self_attn.q_proj.weight",
                                          block + "self_attn.k_proj.weight", block + "self_attn.v_proj.weight",
                                          block + "self_attn.o_proj.weight", block + "mlp.gate_proj.weight",
                                          block + "mlp.up_proj.weight", block + "mlp.down_proj.weight",
                                          block + "input_layernorm.weight", block + "post_attention_layernorm.weight",
                                          "model.norm.weight", "lm_head.weight"));
  config.attention_bias = config.mlp_bias = true;
  const StateDict state = Llama(config).state_dict();
  EXPECT_EQ(state.at(block + "self_attn.k_proj.bias").shape(), (Shape{16}));
  EXPECT_EQ(state.at(block + "mlp.down_proj.bias").shape(), (Shape{32}));
  EXPECT_EQ(state.at(block + "mlp.gate_proj.weight").shape(), (Shape{88, 32}));  // 8/3 of 32, to a multiple of 8
}

TEST(Llama, StartsWithSmallResidualBranches) {
  Generator g(1);
  LlamaConfig config = small_config();
  config.width = 128;
  config.layers = 8;
  config.generator = &g;
  const Llama llama(config);
  for (const auto& [name, p] : llama.named_parameters()) {
    const Tensor values = p.to(DType::f64);
    if (p.rank() == 1) {
      EXPECT_EQ(max(abs(values - 1.0)).item<double>(), 0) << name;
    } else {
      const bool ends = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
      EXPECT_NEAR(std::sqrt(var(values).item<double>()) / (ends ? 0.02 / 4 : 0.02), 1, 0.05) << name;
    }
  }
}

TEST(Llama, ATiedHeadIsTheEmbedding) {
  LlamaConfig config = small_config();
  const std::int64_t untied = Llama(config).num_parameters();
  config.tied_head = true;
  const Llama llama(config);
  EXPECT_EQ(llama.num_parameters(), untied - 65 * 32);
  EXPECT_TRUE(llama.state_dict().contains("lm_head.weight"));
}

TEST(Llama, Learns) {
  Generator g(1);
  LlamaConfig config = small_config();
  config.generator = &g;
  Llama llama(config);
  optim::AdamW optimizer(llama.parameters(), {.lr = 3e-3});
  double first = 0, last = 0;
  for (int i = 0; i < 80; ++i) {
    const Tensor start = randint(0, 65, {8, 1}, {DType::i64}, &g);
    const Tensor text = start + arange(33);
    const Tensor ids = text - floor(text.to(DType::f64) / 65.0).to(DType::i64) * 65;
    optimizer.zero_grad();
    const Tensor loss = llama.loss(ids.narrow(1, 0, 32), ids.narrow(1, 1, 32));
    loss.backward();
    optimizer.step();
    last = loss.item<double>();
    if (i == 0) first = last;
  }
  EXPECT_GT(first, 4.0);
  EXPECT_LT(last, 1.0);
}

TEST(Llama, ErrorsNameTheNumbers) {
  const auto refused = [](auto change) {
    LlamaConfig config = small_config();
    change(config);
    return message_of<ConfigError>([&] { Llama llama(config); });
  };
  EXPECT_THAT(refused([](LlamaConfig& c) { c.heads = 5; }), HasSubstr("5 heads do not divide a width of 32"));
  EXPECT_THAT(refused([](LlamaConfig& c) { c.kv_heads = 3; }), HasSubstr("kv_heads is 3, but must divide the 4 heads"));
  EXPECT_THAT(refused([](LlamaConfig& c) { c.attention = AttentionKind::mqa; }),
              HasSubstr("kv_heads 2 are for grouped"));
  EXPECT_THAT(refused([](LlamaConfig& c) { c.head_dim = 7; }), HasSubstr("7"));
  EXPECT_THAT(refused([](LlamaConfig& c) { c.sliding_window = -1; }), HasSubstr("sliding_window of -1"));
  EXPECT_THAT(refused([](LlamaConfig& c) { c.dropout = 1; }), HasSubstr("dropout is 1"));
  Llama llama(small_config());
  EXPECT_THAT(message_of<ShapeError>([&] {
                (void)llama.forward(zeros({1, 33}, {DType::i64}));
              }),
              HasSubstr("[llama] 33 tokens behind 0 cached ones exceed the block size of 32"));
}

}  // namespace
}  // namespace trinix::nn
