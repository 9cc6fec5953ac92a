#include "attention_configuration.h"

#include <cmath>
#include <gtest/gtest.h>

#include <trinix/core/backend.h>

namespace trinix::testing {
namespace {

constexpr std::uint64_t kSeed = 11;

struct Sizes {
  const char* name;
  std::int64_t batch, queries, keys, heads, key_heads, depth, value_depth;
};

/// By the definition; p is dropped with the generator at (kSeed, 0).
Array naive_attention(const std::vector<Array>& in, bool causal, double dropout, std::int64_t left = -1,
                      std::int64_t right = -1) {
  const NaiveAttention options{.causal = causal, .left = left, .right = right, .dropout = dropout, .seed = kSeed};
  return options.run(in[0], in[1], in[2]).out;
}

OpCase case_of(const Sizes& s, bool causal, double dropout, bool small, std::int64_t left = -1,
               std::int64_t right = -1) {
  return {.name = std::string(s.name) + (causal ? "_causal" : "") + (dropout > 0 ? "_dropout" : "") +
                  (left >= 0 || right >= 0 ? "_window" : ""),
          .inputs = {{s.batch, s.queries, s.heads, s.depth},
                     {s.batch, s.keys, s.key_heads, s.depth},
                     {s.batch, s.keys, s.key_heads, s.value_depth}},
          .function =
              [=](const std::vector<Tensor>& x, KernelChoice kernel) {
                Generator generator(kSeed);
                return scaled_dot_product_attention(x[0], x[1], x[2],
                                                    {.causal = causal,
                                                     .window_left = left,
                                                     .window_right = right,
                                                     .dropout = dropout,
                                                     .kernel = kernel,
                                                     .generator = &generator});
              },
          .reference = [=](const std::vector<Array>& x) { return naive_attention(x, causal, dropout, left, right); },
          .has_kernels = true,
          // Finite differences take too long on the large ones.
          .dtypes = small ? std::vector{DType::f64, DType::f32, DType::bf16, DType::f16}
                          : std::vector{DType::f32, DType::bf16},
          .tolerance = {1e-12, 4e-6, 1e-2, 2e-3},
          .layouts = {Layout::contiguous, Layout::transposed, Layout::sliced}};
}

std::vector<OpCase> attention_cases() {
  std::vector<OpCase> list;
  const Sizes small[] = {
      {"square", 2, 6, 6, 2, 2, 5, 5},        {"more_keys", 1, 5, 9, 2, 2, 4, 3},
      {"more_queries", 1, 9, 5, 2, 2, 3, 4},  {"grouped", 2, 6, 7, 4, 2, 4, 4},
      {"one_key_head", 1, 5, 5, 3, 1, 3, 2},  {"one_query", 2, 1, 9, 2, 1, 6, 5},
      {"three_queries", 1, 3, 7, 2, 2, 4, 4},
  };
  const Sizes large[] = {
      {"large", 2, 64, 64, 3, 3, 32, 32},
      {"large_odd", 1, 97, 131, 2, 1, 40, 24},
      {"several_blocks", 1, 150, 700, 2, 2, 33, 17},
      {"large_masked", 1, 200, 90, 1, 1, 64, 64},
      {"one_query_of_many_keys", 2, 1, 900, 4, 2, 64, 64},
  };
  for (const bool causal : {false, true}) {
    for (const double dropout : {0.0, 0.3}) {
      for (const Sizes& s : small) list.push_back(case_of(s, causal, dropout, true));
      for (const Sizes& s : large) list.push_back(case_of(s, causal, dropout, false));
    }
  }
  for (const auto& [left, right] : {std::pair<std::int64_t, std::int64_t>{2, 1}, {3, -1}, {-1, 2}, {2, 0}}) {
    list.push_back(case_of(small[1], false, 0, true, left, right));
    list.push_back(case_of(small[2], right == 1, 0.3, true, left, right));
    // At least a few keys per query: the gradient of a softmax over one is exactly 0, and no error is relative to that.
    list.push_back(case_of({"long", 1, 150, 190, 4, 2, 32, 32}, false, 0, false, left < 0 ? -1 : 20 * left + 1, right));
  }
  return list;
}

class Attention : public ::testing::TestWithParam<OpCase> {};
TEST_P(Attention, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, Attention, ::testing::ValuesIn(attention_cases()),
                         [](const auto& info) { return info.param.name + "_" + std::to_string(info.index); });

Tensor random(const Shape& shape, std::uint64_t seed, DType dtype = DType::f32) {
  return from_vector(random_values(static_cast<std::size_t>(numel(shape)), seed), shape).to(dtype);
}

class AttentionOnDevice : public OnTiledKernel {
 protected:
  static Tensor random(const Shape& shape, std::uint64_t seed, DType dtype = DType::f32) {
    return testing::random(shape, seed, dtype).to(device());
  }
};
INSTANTIATE_TEST_SUITE_P(Kernels, AttentionOnDevice, ::testing::ValuesIn(tiled_kernels()), tiled_kernel_name);

TEST_P(AttentionOnDevice, PackedIsAttentionToTheSlicesForwardAndBackward) {
  const std::int64_t heads = 3, depth = 24;
  set_deterministic(true);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const double dropout : {0.0, 0.2}) {
      const Tensor values = random({2, 70, 3 * heads * depth}, 1, dtype);
      const Tensor direction = random({2, 70, heads, depth}, 2, dtype);
      const auto options = [&](Generator& g) {
        return AttentionOptions{.causal = true, .dropout = dropout, .generator = &g};
      };
      Tensor whole = values.clone().requires_grad_();
      const Tensor parts = whole.view({2, 70, 3, heads, depth});
      Generator g0(5);
      const Tensor expected =
          scaled_dot_product_attention(parts.select(2, 0), parts.select(2, 1), parts.select(2, 2), options(g0));
      expected.backward(direction);
      for (const bool five_dims : {false, true}) {
        Tensor packed = (five_dims ? values.view({2, 70, 3, heads, depth}) : values).clone().requires_grad_();
        Generator g(5);
        const Tensor out = packed_self_attention(packed, heads, options(g));
        EXPECT_EQ(out.to_doubles(), expected.to_doubles());
        out.backward(direction);
        EXPECT_LE(relative_error(packed.grad().to_doubles(), whole.grad().to_doubles()), 1e-12);
      }
    }
  }
  set_deterministic(false);
}

TEST_P(AttentionOnDevice, RowsThatSeeNothingAreZeroWithZeroGradients) {
  for (const Kernel kernel : {tiled(), Kernel::reference}) {
    Tensor q = random({1, 70, 1, 8}, 1, dtype()).requires_grad_();
    Tensor k = random({1, 10, 1, 8}, 2, dtype()).requires_grad_();
    Tensor v = random({1, 10, 1, 8}, 3, dtype()).requires_grad_();
    const Tensor out = scaled_dot_product_attention(q, k, v, {.causal = true, .kernel = kernel});
    out.backward(ones_like(out));
    const auto rows = out.to_doubles();
    const auto dq = q.grad().to_doubles();
    for (std::size_t i = 0; i < 60 * 8; ++i) {
      EXPECT_EQ(rows[i], 0.0);
      EXPECT_EQ(dq[i], 0.0);
    }
    EXPECT_NE(rows[60 * 8], 0.0);
    for (const Tensor& t : {k.grad(), v.grad()}) {
      for (const double x : t.to_doubles()) EXPECT_TRUE(std::isfinite(x));
    }
  }
}

TEST_P(AttentionOnDevice, RowsThatSeeOneKeyCopyItsValue) {
  Tensor q = random({1, 6, 2, 8}, 1, dtype()).requires_grad_();
  Tensor k = random({1, 1, 2, 8}, 2, dtype()).requires_grad_();
  Tensor v = random({1, 1, 2, 8}, 3, dtype()).requires_grad_();
  const Tensor out = scaled_dot_product_attention(q, k, v, {.kernel = tiled()});
  EXPECT_LE(relative_error(out.to_doubles(), v.expand({1, 6, 2, 8}).to_doubles()), 1e-6);
  out.backward(ones_like(out));
  for (const Tensor& t : {q.grad(), k.grad()}) {
    for (const double x : t.to_doubles()) EXPECT_NEAR(x, 0, 1e-5);
  }
  EXPECT_EQ(v.grad().to_doubles(), std::vector<double>(16, 6));
}

TEST_P(AttentionOnDevice, LargeScoresStayFinite) {
  const Tensor q = full({1, 40, 1, 8}, 1e4, {dtype()});
  const Tensor k = random({1, 40, 1, 8}, 1, dtype()) * 1e4;
  const Tensor v = random({1, 40, 1, 8}, 2, dtype());
  const auto got = scaled_dot_product_attention(q, k, v, {.kernel = tiled()}).to_doubles();
  const Array expected = naive_attention({to_array(q), to_array(k), to_array(v)}, false, 0);
  EXPECT_LE(relative_error(got, expected.values), dtype() == DType::f32 ? 1e-5 : 1e-2);
}

TEST_P(AttentionOnDevice, DropoutDropsItsShareAndTheSameElementsForTheSameSeed) {
  // With equal scores and one-hot values, column j of the output tells what became of p_ij.
  const std::int64_t n = 128;
  const Tensor zero = zeros({1, n, 1, n}, {dtype()});
  const Tensor v = eye(n).to(dtype()).view({1, n, 1, n});
  const auto draw = [&](std::uint64_t seed) {
    Generator g(seed);
    return scaled_dot_product_attention(zero, zero, v, {.dropout = 0.25, .kernel = tiled(), .generator = &g})
        .to_doubles();
  };
  const auto first = draw(1);
  EXPECT_EQ(first, draw(1));
  EXPECT_NE(first, draw(2));
  double dropped = 0;
  for (const double p : first) {
    dropped += p == 0 ? 1 : 0;
    if (p == 0) continue;
    EXPECT_NEAR(p, 1.0 / (0.75 * static_cast<double>(n)), dtype() == DType::f32 ? 1e-6 : 5e-5);
  }
  const double count = static_cast<double>(n * n);
  EXPECT_NEAR(dropped / count, 0.25, 4 * std::sqrt(0.25 * 0.75 / count));
  Generator g(1);
  static_cast<void>(scaled_dot_product_attention(zero, zero, v, {.dropout = 0.25, .generator = &g}));
  EXPECT_EQ(g.state().offset, static_cast<std::uint64_t>(n * n / 4));
}

TEST_P(AttentionOnDevice, MemoryGrowsWithTheLengthAndNotWithItsSquare) {
  const std::int64_t length = 8192;
  Tensor qkv = random({1, length, 3 * 8 * 64}, 1, dtype()).requires_grad_();
  reset_peak_memory(device());
  const Tensor out = packed_self_attention(qkv, 8, {.causal = true, .kernel = tiled()});
  out.backward(ones_like(out));
  // One matrix of scores would take 2 GB.
  EXPECT_LT(memory_stats(device()).peak_allocated, std::int64_t{300} << 20);
  EXPECT_TRUE(std::isfinite(qkv.grad().to_doubles()[12345]));
}

TEST(Attention, TheResultDoesNotDependOnTheNumberOfThreads) {
  const auto gradient = [](int threads) {
    set_num_threads(threads);
    Tensor qkv = random({1, 300, 3 * 2 * 32}, 1).requires_grad_();
    const Tensor out = packed_self_attention(qkv, 2, {.causal = true});
    out.backward(random({1, 300, 2, 32}, 2));
    set_num_threads(0);
    return qkv.grad().to_vector<float>();
  };
  EXPECT_EQ(gradient(1), gradient(3));
}

TEST(Attention, FewQueriesMayShareTheirKeysOutToManyThreads) {
  // Each thread then has keys of a number that fills no whole vector, and others follow behind them.
  const Tensor q = random({1, 2, 4, 24}, 1), k = random({1, 907, 2, 24}, 2), v = random({1, 907, 2, 24}, 3);
  for (const bool causal : {false, true}) {
    const auto expected = scaled_dot_product_attention(q, k, v, {.causal = causal, .kernel = Kernel::reference});
    for (const int threads : {1, 5, 8, 16, 33}) {
      set_num_threads(threads);
      const Tensor out = scaled_dot_product_attention(q, k, v, {.causal = causal, .kernel = Kernel::flash});
      set_num_threads(0);
      EXPECT_LE(relative_error(out.to_doubles(), expected.to_doubles()), 2e-6) << threads << " threads";
    }
  }
}

TEST_P(AttentionOnDevice, EmptySequencesGiveEmptyOrZeroResults) {
  EXPECT_EQ(scaled_dot_product_attention(zeros({2, 0, 2, 4}), zeros({2, 3, 2, 4}), zeros({2, 3, 2, 4})).shape(),
            (Shape{2, 0, 2, 4}));
  Tensor q = ones({1, 2, 2, 4}).requires_grad_();
  const Tensor out = scaled_dot_product_attention(q, zeros({1, 0, 2, 4}), zeros({1, 0, 2, 4}));
  EXPECT_EQ(out.to_vector<float>(), std::vector<float>(16, 0.0F));
  out.backward(ones_like(out));
  EXPECT_EQ(q.grad().to_vector<float>(), std::vector<float>(16, 0.0F));
  EXPECT_EQ(packed_self_attention(zeros({2, 0, 24}), 2).shape(), (Shape{2, 0, 2, 4}));
}

TEST(Attention, MistakesAreExplained) {
  const auto message = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return e.what();
    }
    return "no exception";
  };
  const Tensor x = zeros({2, 5, 4, 8});
  EXPECT_EQ(
      message([&] {
        static_cast<void>(scaled_dot_product_attention(x, zeros({2, 5, 4, 7}), x));
      }),
      "[scaled_dot_product_attention] shapes [2, 5, 4, 8], [2, 5, 4, 7] and [2, 5, 4, 8] do not fit: q (B, Sq, H, "
      "D), k (B, Sk, Hkv, D), v (B, Sk, Hkv, Dv)");
  EXPECT_EQ(message([&] {
              static_cast<void>(scaled_dot_product_attention(x, zeros({2, 5, 3, 8}), zeros({2, 5, 3, 8})));
            }),
            "[scaled_dot_product_attention] 4 query heads cannot share 3 key heads evenly (shapes [2, 5, 4, 8] and [2, "
            "5, 3, 8])");
  EXPECT_EQ(message([&] { static_cast<void>(scaled_dot_product_attention(x, x.to(DType::f64), x)); }),
            "[scaled_dot_product_attention] q is f32, k is f64; convert one with to()");
  EXPECT_EQ(message([&] { static_cast<void>(scaled_dot_product_attention(x, x, x, {.dropout = -0.5})); }),
            "[scaled_dot_product_attention] dropout is -0.5; it must be in [0, 1]");
  EXPECT_EQ(message([&] {
              static_cast<void>(packed_self_attention(zeros({2, 5, 24}), 5));
            }),
            "[packed_self_attention] shape [2, 5, 24] is not (B, S, 3, H, D) or (B, S, 3*H*D) with 5 heads");
  const Tensor wide = x.to(DType::f64);
  EXPECT_EQ(
      message([&] { static_cast<void>(scaled_dot_product_attention(wide, wide, wide, {.kernel = Kernel::flash})); }),
      "[attention] no flash kernel on cpu takes these arguments\n  cpu_blocked (flash): computes in f32, the "
      "operands are f64");
}

}  // namespace
}  // namespace trinix::testing
