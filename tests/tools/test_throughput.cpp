#include <cmath>
#include <gtest/gtest.h>

#include <trinix/core/generator.h>
#include <trinix/layers/gpt.h>
#include <trinix/tools/lib/throughput.h>

namespace trinix::tools {
namespace {

TEST(Throughput, CountsTheOperationsOfAToken) {
  Generator generator(1);
  const nn::Gpt model(
      {.vocab_size = 10, .block_size = 8, .layers = 2, .heads = 2, .width = 4, .bias = false, .generator = &generator});
  // Embeddings 10 x 4 and 8 x 4; per layer 2 norms of 4 and 12 x 4 x 4 weights; a last norm of 4.
  EXPECT_EQ(model.num_parameters(), 72 + 2 * (8 + 192) + 4);
  EXPECT_EQ(flops_per_token(model), 6.0 * 476 + 12.0 * 2 * 4 * 8);
}

TEST(Throughput, KnowsTheUsualCards) {
  EXPECT_EQ(peak_tflops("NVIDIA H200", DType::bf16), 989);
  EXPECT_EQ(peak_tflops("NVIDIA H100 80GB HBM3", DType::f16), 989);
  EXPECT_EQ(peak_tflops("NVIDIA H100 PCIe", DType::bf16), 756);
  EXPECT_EQ(peak_tflops("NVIDIA H200", DType::f32), 67);
  EXPECT_EQ(peak_tflops("NVIDIA A100-SXM4-40GB", DType::bf16), 312);
  EXPECT_EQ(peak_tflops("NVIDIA L40S", DType::bf16), 362);
  EXPECT_EQ(peak_tflops("NVIDIA L40", DType::bf16), 181);
  EXPECT_EQ(peak_tflops("Some Card 3000", DType::bf16), std::nullopt);
  EXPECT_EQ(card_name(Device::cpu()), "");
}

TEST(Pace, IsWorkOverTime) {
  Pace pace;
  EXPECT_TRUE(std::isnan(pace.per_second(0)));
  EXPECT_GT(pace.per_second(5), 0);
}

}  // namespace
}  // namespace trinix::tools
