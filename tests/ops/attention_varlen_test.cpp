#include "attention_configuration.h"

#include <gtest/gtest.h>

/// Sequences of several lengths, packed projections with fewer key heads, and the same bits every time.

namespace trinix::testing::attention_varlen {
namespace {

Tensor random(const Shape& shape, std::uint64_t seed) {
  return from_vector(random_values(static_cast<std::size_t>(numel(shape)), seed), shape);
}

class AttentionForms : public OnTiledKernel {
 protected:
  static Tensor leaf(const Shape& shape, std::uint64_t seed, DType type = dtype()) {
    return random(shape, seed).to(type).to(device()).detach().requires_grad_();
  }
  static Tensor starts(const std::vector<std::int32_t>& values) { return from_vector(values); }
};
INSTANTIATE_TEST_SUITE_P(Kernels, AttentionForms, ::testing::ValuesIn(tiled_kernels()), tiled_kernel_name);

TEST_P(AttentionForms, SequencesAreAttendedToAsIfEachWereAlone) {
  const std::vector<std::int32_t> query_ends{0, 40, 40, 41, 75}, key_ends{0, 31, 40, 140, 140};
  const Tensor query_starts = starts(query_ends), key_starts = starts(key_ends);
  const Tensor slopes = from_vector(std::vector<float>{0.25F, 0.0625F, 0.5F, 0.125F});
  for (const Kernel kernel : {tiled(), Kernel::reference}) {
    const Tensor q = leaf({75, 4, 16}, 1), k = leaf({140, 2, 16}, 2), v = leaf({140, 2, 24}, 3);
    const Tensor direction = random({75, 4, 24}, 4).to(dtype()).to(device());
    const AttentionOptions options{.causal = true, .window_left = 30, .alibi_slopes = slopes, .kernel = kernel};
    const AttentionResult all = attention_varlen_with_lse(q, k, v, query_starts, key_starts, 40, 100, options);
    EXPECT_EQ(all.out.shape(), (Shape{75, 4, 24}));
    EXPECT_EQ(all.lse.shape(), (Shape{4, 75}));
    const auto gradients = grad(all.out, {q, k, v}, direction);
    for (std::size_t n = 0; n + 1 < query_ends.size(); ++n) {
      const std::int64_t i = query_ends[n], queries = query_ends[n + 1] - i;
      const std::int64_t j = key_ends[n], keys = key_ends[n + 1] - j;
      const auto alone = [](const Tensor& t, std::int64_t first, std::int64_t count) {
        return t.narrow(0, first, count).unsqueeze(0).detach().clone().requires_grad_();
      };
      const Tensor q1 = alone(q, i, queries), k1 = alone(k, j, keys), v1 = alone(v, j, keys);
      const AttentionResult one = attention_with_lse(q1, k1, v1, options);
      EXPECT_LE(relative_error(all.out.narrow(0, i, queries).to_doubles(), one.out.to_doubles()), 1e-6);
      EXPECT_LE(relative_error(all.lse.narrow(1, i, queries).to_doubles(), one.lse.to_doubles()), 1e-6);
      if (queries == 0) {
        for (const Tensor& g : {gradients[1], gradients[2]}) {
          for (const double x : g.narrow(0, j, keys).to_doubles()) EXPECT_EQ(x, 0.0);
        }
        continue;
      }
      const auto expected = grad(one.out, {q1, k1, v1}, direction.narrow(0, i, queries).unsqueeze(0));
      const double limit = dtype() == DType::f32 ? 1e-6 : 1e-2;
      EXPECT_LE(relative_error(gradients[0].narrow(0, i, queries).to_doubles(), expected[0].to_doubles()), limit);
      EXPECT_LE(relative_error(gradients[1].narrow(0, j, keys).to_doubles(), expected[1].to_doubles()), limit);
      EXPECT_LE(relative_error(gradients[2].narrow(0, j, keys).to_doubles(), expected[2].to_doubles()), limit);
    }
  }
}

TEST_P(AttentionForms, StepsOfGenerationHaveKeysOfSeveralLengths) {
  // One query per sequence, as many keys as its cache holds.
  const Tensor q = leaf({3, 4, 16}, 1), k = leaf({120, 2, 16}, 2), v = leaf({120, 2, 16}, 3);
  const NaiveAttention options{.causal = true, .left = 50, .query_starts = {0, 1, 2, 3}, .key_starts = {0, 7, 77, 120}};
  const NoGrad no_grad;
  for (const Kernel kernel : {tiled(), Kernel::reference}) {
    const Tensor out = scaled_dot_product_attention_varlen(q, k, v, starts({0, 1, 2, 3}), starts({0, 7, 77, 120}), 1,
                                                           70, {.causal = true, .window_left = 50, .kernel = kernel});
    const auto expected = options.run(to_array(q), to_array(k), to_array(v)).out.values;
    EXPECT_LE(relative_error(out.to_doubles(), expected), dtype() == DType::f32 ? 1e-6 : 1e-2);
  }
}

TEST_P(AttentionForms, NoSequencesAndEmptyOnes) {
  const Tensor none = leaf({0, 2, 8}, 1);
  const Tensor out = scaled_dot_product_attention_varlen(none, none, none, starts({0}), starts({0}), 0, 0);
  EXPECT_EQ(out.shape(), none.shape());
  const Tensor q = leaf({3, 2, 8}, 1);
  const AttentionResult unseen =
      attention_varlen_with_lse(q, none, none, starts({0, 1, 3}), starts({0, 0, 0}), 2, 0, {.causal = true});
  EXPECT_EQ(unseen.out.to_doubles(), std::vector<double>(48, 0.0));
  for (const double x : unseen.lse.to_doubles()) EXPECT_EQ(x, -std::numeric_limits<double>::infinity());
  sum(unseen.out).backward();
  EXPECT_EQ(q.grad().to_doubles(), std::vector<double>(48, 0.0));
}

TEST_P(AttentionForms, PackedWithFewerKeyHeadsIsAttentionToTheSlices) {
  const std::int64_t heads = 6, kv_heads = 2, depth = 16;
  const Tensor mask = leaf({50, 50}, 5, DType::f32);
  for (const Kernel kernel : {tiled(), Kernel::reference}) {
    const Tensor packed = leaf({2, 50, (heads + 2 * kv_heads) * depth}, 1);
    const Tensor apart = packed.view({2, 50, heads + 2 * kv_heads, depth});
    const AttentionOptions options{.causal = true, .mask = mask, .kernel = kernel};
    const Tensor expected = scaled_dot_product_attention(apart.narrow(2, 0, heads), apart.narrow(2, heads, kv_heads),
                                                         apart.narrow(2, heads + kv_heads, kv_heads), options);
    const Tensor out = packed_self_attention(packed, heads, kv_heads, options);
    EXPECT_EQ(out.to_doubles(), expected.to_doubles());
    const Tensor direction = random({2, 50, heads, depth}, 2).to(dtype()).to(device());
    const auto got = grad(out, {packed, mask}, direction);
    const auto wanted = grad(expected, {packed, mask}, direction);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_LE(relative_error(got[i].to_doubles(), wanted[i].to_doubles()), dtype() == DType::f32 ? 1e-6 : 1e-2);
    }
  }
}

TEST_P(AttentionForms, TenRepeatsGiveTheSameBits) {
  set_deterministic(true);
  const Tensor q = leaf({2, 140, 4, 32}, 1), k = leaf({2, 260, 2, 32}, 2), v = leaf({2, 260, 2, 32}, 3);
  const Tensor shared = leaf({140, 260}, 4, DType::f32);
  const Tensor slopes = from_vector(std::vector<float>{0.25F, 0.0625F, 0.5F, 0.125F});
  std::vector<std::vector<double>> first;
  for (int repeat = 0; repeat < 10; ++repeat) {
    Generator generator(7);
    const AttentionResult result = attention_with_lse(q, k, v,
                                                      {.window_left = 150,
                                                       .alibi_slopes = slopes,
                                                       .mask = shared,
                                                       .dropout = 0.1,
                                                       .kernel = tiled(),
                                                       .generator = &generator});
    std::vector<std::vector<double>> bits = {result.out.to_doubles(), result.lse.to_doubles()};
    const Tensor loss = sum(result.out.to(DType::f32)) + sum(result.lse);
    for (const Tensor& g : grad(loss, {q, k, v, shared})) bits.push_back(g.to_doubles());
    if (repeat == 0) first = bits;
    EXPECT_EQ(bits, first);
  }
}

TEST_P(AttentionForms, ResultsOverPartsOfTheKeysAreJoinedByLse) {
  const Tensor q = leaf({1, 20, 2, 16}, 1), k = leaf({1, 60, 2, 16}, 2), v = leaf({1, 60, 2, 16}, 3);
  const Tensor whole = scaled_dot_product_attention(q, k, v, {.kernel = tiled()});
  const AttentionResult a = attention_with_lse(q, k.narrow(1, 0, 25), v.narrow(1, 0, 25), {.kernel = tiled()});
  const AttentionResult b = attention_with_lse(q, k.narrow(1, 25, 35), v.narrow(1, 25, 35), {.kernel = tiled()});
  const Tensor weight = sigmoid(a.lse - b.lse).transpose(1, 2).unsqueeze(-1);
  const Tensor joined = a.out.to(DType::f32) * weight + b.out.to(DType::f32) * (1 - weight);
  const double limit = dtype() == DType::f32 ? 2e-6 : 1e-2;
  EXPECT_LE(relative_error(joined.to_doubles(), whole.to_doubles()), limit);
  const Tensor direction = random(whole.shape(), 4).to(device());
  const auto wanted = grad(whole, {q, k, v}, direction.to(dtype()));
  const auto got = grad(joined, {q, k, v}, direction.to(DType::f32));
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_LE(relative_error(got[i].to_doubles(), wanted[i].to_doubles()), 2 * limit) << i;
  }
}

}  // namespace
}  // namespace trinix::testing::attention_varlen
