#include "attention_configuration.h"

#include <cmath>
#include <gtest/gtest.h>

/// Faults that are known from Trinix's attention, each with a test that fails where it is.

namespace trinix::testing::attention_faults {
namespace {

Tensor random(const Shape& shape, std::uint64_t seed) {
  return from_vector(random_values(static_cast<std::size_t>(numel(shape)), seed), shape);
}

class AttentionFaults : public OnTiledKernel {
 protected:
  static Tensor leaf(const Shape& shape, std::uint64_t seed) {
    return random(shape, seed).to(dtype()).to(device()).detach().requires_grad_();
  }
  static Tensor slopes(std::int64_t heads) {
    std::vector<float> values;
    for (std::int64_t h = 1; h <= heads; ++h) {
      values.push_back(static_cast<float>(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(heads))));
    }
    return from_vector(values);
  }
};
INSTANTIATE_TEST_SUITE_P(Kernels, AttentionFaults, ::testing::ValuesIn(tiled_kernels()), tiled_kernel_name);

// Trinix: the fused kernel's result knows of no gradient, so the projections before it never learn.
TEST_P(AttentionFaults, GradientsGoThroughTheFusedKernel) {
  const Tensor q = leaf({2, 20, 2, 16}, 1), k = leaf({2, 20, 2, 16}, 2), v = leaf({2, 20, 2, 16}, 3);
  const Tensor out = scaled_dot_product_attention(q, k, v, {.causal = true, .kernel = tiled()});
  EXPECT_NE(last_kernel("attention"), "reference");
  ASSERT_TRUE(out.requires_grad());
  sum(out * random(out.shape(), 4).to(dtype()).to(device())).backward();
  for (const Tensor& t : {q, k, v}) EXPECT_GT(norm(t.grad().to(DType::f32)).item<float>(), 0.1F);
}

// Trinix: dropout before the sum of the softmax, so that the kept probabilities always add up to 1.
TEST_P(AttentionFaults, DropoutDoesNotChangeTheSumOfTheSoftmax) {
  // With values of 1, the result is the sum of what was kept: kept / keys / 0.75, which varies from row to row.
  const std::int64_t n = 64;
  const Tensor zero = zeros({1, n, 1, 16}, {dtype()});
  for (const Kernel kernel : {tiled(), Kernel::reference}) {
    Generator generator(3);
    const auto rows = scaled_dot_product_attention(zero, zero, ones_like(zero),
                                                   {.dropout = 0.25, .kernel = kernel, .generator = &generator})
                          .narrow(3, 0, 1)
                          .to_doubles();
    double lowest = 9, highest = 0, total = 0;
    for (const double x : rows) {
      const double kept = x * 0.75 * static_cast<double>(n);
      // Rounded to 16 bits, the result of 48 kept keys is off by up to 48 / 256, and the factor 1 / 0.75 / 64 by as
      // much again in proportion.
      EXPECT_NEAR(kept, std::round(kept), dtype() == DType::f32 ? 0.01 : 0.3);
      lowest = std::min(lowest, x);
      highest = std::max(highest, x);
      total += x;
    }
    EXPECT_LT(lowest, 0.95);
    EXPECT_GT(highest, 1.05);
    EXPECT_NEAR(total / static_cast<double>(n), 1, 0.05);
  }
}

// Trinix: windows and cached causal masks are (1 - mask) * -inf, which is NaN wherever a key is visible.
TEST_P(AttentionFaults, WindowsAndCachedCausalMasksAreFinite) {
  struct Case {
    std::int64_t queries, keys;
    NaiveAttention options;
  };
  const Case cases[] = {
      {70, 70, {.causal = true, .left = 5}}, {70, 70, {.left = 4, .right = 4}}, {1, 70, {.causal = true}},
      {1, 70, {.causal = true, .left = 9}},  {3, 70, {.causal = true}},         {9, 70, {.causal = true, .left = 20}}};
  for (const Kernel kernel : {tiled(), Kernel::reference}) {
    for (const Case& c : cases) {
      const Tensor q = leaf({2, c.queries, 4, 16}, 1), k = leaf({2, c.keys, 2, 16}, 2), v = leaf({2, c.keys, 2, 16}, 3);
      const Tensor out = scaled_dot_product_attention(q, k, v,
                                                      {.causal = c.options.causal,
                                                       .window_left = c.options.left,
                                                       .window_right = c.options.right,
                                                       .kernel = kernel});
      const auto expected = c.options.run(to_array(q), to_array(k), to_array(v)).out.values;
      EXPECT_LE(relative_error(out.to_doubles(), expected), dtype() == DType::f32 ? 1e-6 : 1e-2);
      out.backward(ones_like(out));
      for (const Tensor& t : {q, k, v}) {
        for (const double x : t.grad().to_doubles()) ASSERT_TRUE(std::isfinite(x));
      }
    }
  }
}

// Trinix: ALiBi is a tensor of heads x S x S, and is added twice.
TEST_P(AttentionFaults, AlibiIsAddedOnceAndNeverBuilt) {
  // Equal scores: the lse of a row is that of -slope * distance alone.
  const std::int64_t length = 2048, heads = 8;
  const Tensor zero = zeros({1, length, heads, 16}, {dtype()}).requires_grad_();
  const Tensor bias = slopes(heads).to(device());
  static_cast<void>(attention_with_lse(zero, zero, zero, {.alibi_slopes = bias, .kernel = tiled()}));
  reset_peak_memory(device());
  const std::int64_t before = memory_stats(device()).allocated;
  const AttentionResult result =
      attention_with_lse(zero, zero, zero, {.causal = true, .alibi_slopes = bias, .kernel = tiled()});
  sum(result.out).backward();
  // The bias would take 128 MB, one head's share 16.
  EXPECT_LT(memory_stats(device()).peak_allocated - before, std::int64_t{12} << 20);
  const auto lse = result.lse.to_doubles();
  for (std::int64_t h = 0; h < heads; ++h) {
    const double slope = std::exp2(-static_cast<double>(h + 1));
    const double expected = std::log((1 - std::exp(-slope * static_cast<double>(length))) / (1 - std::exp(-slope)));
    EXPECT_NEAR(lse[static_cast<std::size_t>((h + 1) * length - 1)], expected, 1e-4);
  }
}

// Trinix: keys and values are repeated for every query head before the kernel.
TEST_P(AttentionFaults, KeysAndValuesAreNotExpanded) {
  const std::int64_t length = 1024, heads = 16, depth = 64;
  const Tensor q = leaf({1, length, heads, depth}, 1), k = leaf({1, length, 1, depth}, 2),
               v = leaf({1, length, 1, depth}, 3);
  const std::int64_t bytes = q.numel() * static_cast<std::int64_t>(size_of(dtype()));
  {
    const NoGrad no_grad;
    static_cast<void>(scaled_dot_product_attention(q, k, v, {.causal = true, .kernel = tiled()}));
    reset_peak_memory(device());
    const std::int64_t before = memory_stats(device()).allocated;
    static_cast<void>(scaled_dot_product_attention(q, k, v, {.causal = true, .kernel = tiled()}));
    // The result and lse. Expanded keys and values would be two more of its size.
    EXPECT_LT(memory_stats(device()).peak_allocated - before, bytes + bytes / 8);
  }
  const Tensor out = scaled_dot_product_attention(q, k, v, {.causal = true, .kernel = tiled()});
  out.backward(ones_like(out));
  EXPECT_EQ(k.grad().shape(), k.shape());
}

// Trinix: a bias or a window turns the kernel that was asked for into another one, with a warning at most.
TEST_P(AttentionFaults, ANamedKernelRunsOrSaysWhyNot) {
  const Tensor q = leaf({2, 40, 4, 16}, 1), k = leaf({2, 40, 2, 16}, 2), v = leaf({2, 40, 2, 16}, 3);
  const Tensor bias = slopes(4).to(device());
  const Tensor learnt = random({40, 40}, 5).to(DType::f32).to(device()).detach().requires_grad_();
  Generator generator(1);
  const AttentionOptions all[] = {
      {.causal = true},
      {.window_left = 7, .window_right = 3},
      {.causal = true, .alibi_slopes = bias},
      {.window_left = 9, .alibi_slopes = bias, .mask = learnt, .dropout = 0.1, .generator = &generator},
      {.causal = true, .mask = learnt > 0},
  };
  for (AttentionOptions options : all) {
    options.kernel = tiled();
    const AttentionResult result = attention_with_lse(q, k, v, options);
    EXPECT_NE(last_kernel("attention"), "reference");
    EXPECT_NE(last_kernel("attention"), "");
    sum(result.out).backward();
  }
  // A scope speaks for calls without a choice of their own.
  {
    const KernelScope scope(Kernel::reference);
    static_cast<void>(attention_with_lse(q, k, v, {.alibi_slopes = bias}));
    EXPECT_EQ(last_kernel("attention"), "reference");
    static_cast<void>(attention_with_lse(q, k, v, {.alibi_slopes = bias, .kernel = tiled()}));
    EXPECT_NE(last_kernel("attention"), "reference");
  }
  const KernelScope scope(tiled());
  static_cast<void>(scaled_dot_product_attention(q, k, v, {.mask = learnt > 0}));
  EXPECT_NE(last_kernel("attention"), "reference");
  const Tensor wide = q.detach().to(DType::f64);
  EXPECT_THROW(static_cast<void>(scaled_dot_product_attention(wide, wide, wide)), KernelUnavailable);
}

}  // namespace
}  // namespace trinix::testing::attention_faults
