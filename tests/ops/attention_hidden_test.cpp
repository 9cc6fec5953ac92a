#include "attention_configuration.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

/// What is hidden leaks nothing, whatever it holds; and rows that see nothing.

namespace trinix::testing::attention_hidden {
namespace {

/// `x` with `value` at the positions [begin, end) of dim 1.
Tensor poisoned(const Tensor& x, std::int64_t begin, std::int64_t end, double value) {
  const Tensor y = x.clone();
  y.narrow(1, begin, end - begin).copy_(full({}, value, {x.dtype(), x.device()}));
  return y;
}

/// The positions [begin, end) of dim 1.
std::vector<double> part(const Tensor& x, std::int64_t begin, std::int64_t end) {
  return x.narrow(1, begin, end - begin).to_doubles();
}

class AttentionHidden : public OnTiledKernel {
 protected:
  /// A kernel that keeps no matrix of scores, and the composed form.
  static std::vector<Kernel> kernels() { return {tiled(), Kernel::reference}; }

  struct Run {
    Tensor out, lse, dq, dk, dv, dmask;
  };
  /// Results and gradients for ones of every element that is finite in a row of `used` queries [0, used).
  static Run run(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                 std::int64_t used) {
    Tensor leaves[3] = {q.to(dtype()).to(device()), k.to(dtype()).to(device()), v.to(dtype()).to(device())};
    for (Tensor& t : leaves) t = t.detach().clone().requires_grad_();
    AttentionOptions here = options;
    if (here.mask.defined()) here.mask = here.mask.to(device());
    const bool learns = here.mask.defined() && here.mask.dtype() != DType::boolean;
    if (learns) here.mask = here.mask.detach().clone().requires_grad_();
    const AttentionResult result = attention_with_lse(leaves[0], leaves[1], leaves[2], here);
    sum(result.out.narrow(1, 0, used)).backward();
    return {result.out,       result.lse,       leaves[0].grad(),
            leaves[1].grad(), leaves[2].grad(), learns ? here.mask.grad() : Tensor()};
  }
  /// By how much results may differ that are not to change: rows that meet NaN in what they do not see are computed
  /// another way by Kernel::flash on a card, where nothing but the result is rounded to 16 bits.
  static double slack(Kernel kernel, double otherwise = 0) {
    return on_tensor_cores() && kernel == Kernel::flash ? 0x1p-8 : otherwise;
  }
  static void expect_same(const Run& got, const Run& expected, Kernel kernel) {
    const Tensor Run::*members[] = {&Run::out, &Run::lse, &Run::dq, &Run::dk, &Run::dv, &Run::dmask};
    const char* names[] = {"out", "lse", "dq", "dk", "dv", "dmask"};
    for (std::size_t i = 0; i < 6; ++i) {
      if (!(got.*members[i]).defined()) continue;
      // Kernels of 16-bit types walk another way past what is not finite, and may round in another place.
      const double tolerance = slack(kernel, (got.*members[0]).dtype() == DType::f32 ? 1e-6 : 2e-3);
      EXPECT_LE(relative_error((got.*members[i]).to_doubles(), (expected.*members[i]).to_doubles()), tolerance)
          << names[i];
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Kernels, AttentionHidden, ::testing::ValuesIn(tiled_kernels()), tiled_kernel_name);

TEST_P(AttentionHidden, PaddingBehindAMaskHoldsAnything) {
  // 40 of 52 keys and 33 of 45 queries count; the others are hidden from everybody and see nothing.
  const Tensor q = random({2, 45, 2, 16}, 1), k = random({2, 52, 2, 16}, 2), v = random({2, 52, 2, 16}, 3);
  std::vector<bool> visible;
  std::vector<double> added;
  for (std::int64_t n = 0; n < 45 * 52; ++n) {
    visible.push_back(n / 52 < 33 && n % 52 < 40);
    added.push_back(visible.back() ? 0.25 : -kInfinity);
  }
  const Tensor masks[] = {from_vector(visible, {45, 52}), from_vector(added, {45, 52}).to(DType::f32)};
  for (const Kernel kernel : kernels()) {
    for (const Tensor& mask : masks) {
      const AttentionOptions options{
          .alibi_slopes = from_vector(std::vector<float>{0.5F, 0.25F}).to(device()), .mask = mask, .kernel = kernel};
      const Run clean = run(q, k, v, options, 45);
      for (const double value : {kNan, kInfinity, -kInfinity}) {
        SCOPED_TRACE(std::string(name(kernel)) + " with " + std::to_string(value));
        const Run got =
            run(poisoned(q, 33, 45, value), poisoned(k, 40, 52, value), poisoned(v, 40, 52, value), options, 45);
        expect_same(got, clean, kernel);
      }
      EXPECT_EQ(part(clean.out, 33, 45), std::vector<double>(2 * 12 * 2 * 16, 0.0));
      EXPECT_EQ(part(clean.dk, 40, 52), std::vector<double>(2 * 12 * 2 * 16, 0.0));
      EXPECT_EQ(clean.lse.to_doubles()[44], -kInfinity);
    }
  }
}

TEST_P(AttentionHidden, WhatOneRowSeesDoesNotReachTheOthers) {
  // Key 50 is NaN: causally, rows before 50 do not see it; in a window of 8, nor do rows from 59 on.
  const Tensor q = random({1, 90, 1, 16}, 1), k = random({1, 90, 1, 16}, 2), v = random({1, 90, 1, 16}, 3);
  for (const Kernel kernel : kernels()) {
    for (const std::int64_t left : {-1, 8}) {
      const AttentionOptions options{.causal = true, .window_left = left, .kernel = kernel};
      const Run clean = run(q, k, v, options, 50);
      for (const double value : {kNan, kInfinity}) {
        SCOPED_TRACE(std::string(name(kernel)) + " with " + std::to_string(value));
        const Run got = run(q, poisoned(k, 50, 51, value), poisoned(v, 50, 51, value), options, 50);
        EXPECT_LE(relative_error(part(got.out, 0, 50), part(clean.out, 0, 50)), slack(kernel));
        EXPECT_LE(relative_error(part(got.dq, 0, 50), part(clean.dq, 0, 50)), slack(kernel, 1e-6));
        for (const double x : part(got.out, 50, 51)) EXPECT_FALSE(std::isfinite(x));
        if (left < 0) continue;
        EXPECT_LE(relative_error(part(got.out, 59, 90), part(clean.out, 59, 90)), slack(kernel));
        // Rows 50 to 58 are NaN, and so are the gradients of the keys that they see: 42 to 58.
        EXPECT_LE(relative_error(part(got.dk, 0, 42), part(clean.dk, 0, 42)), slack(kernel, 1e-6));
        EXPECT_LE(relative_error(part(got.dv, 0, 42), part(clean.dv, 0, 42)), slack(kernel, 1e-6));
      }
      // A value that is seen comes through: as it is, or, in `fused` on the tensor cores, as NaN in the whole row.
      const Run infinite = run(q, k, poisoned(v, 50, 51, kInfinity), options, 50);
      const bool becomes_nan = on_tensor_cores() && kernel == Kernel::fused;
      for (const double x : part(infinite.out, 50, 51)) EXPECT_TRUE(becomes_nan ? std::isnan(x) : x == kInfinity) << x;
    }
  }
}

TEST_P(AttentionHidden, ANeighbouringSequenceHoldsAnything) {
  const Tensor q = random({61, 2, 16}, 1), k = random({70, 2, 16}, 2), v = random({70, 2, 16}, 3);
  const Tensor query_starts = from_vector(std::vector<std::int32_t>{0, 20, 33, 61});
  const Tensor key_starts = from_vector(std::vector<std::int32_t>{0, 25, 45, 70});
  for (const Kernel kernel : kernels()) {
    const auto results = [&](double value) {
      const auto with = [&](const Tensor& x, std::int64_t begin, std::int64_t end) {
        return poisoned(x.unsqueeze(0), begin, end, value).squeeze({0}).to(dtype()).to(device()).detach();
      };
      Tensor leaves[3] = {with(q, 20, 33), with(k, 25, 45), with(v, 25, 45)};
      for (Tensor& t : leaves) t.requires_grad_();
      const Tensor out = scaled_dot_product_attention_varlen(leaves[0], leaves[1], leaves[2], query_starts, key_starts,
                                                             28, 25, {.causal = true, .kernel = kernel});
      out.backward(ones_like(out));
      std::vector<std::vector<double>> list;
      for (const Tensor& t : {out, leaves[0].grad()}) {
        list.push_back(part(t.unsqueeze(0), 0, 20));
        list.push_back(part(t.unsqueeze(0), 33, 61));
      }
      for (const Tensor& t : {leaves[1].grad(), leaves[2].grad()}) {
        list.push_back(part(t.unsqueeze(0), 0, 25));
        list.push_back(part(t.unsqueeze(0), 45, 70));
      }
      return list;
    };
    const auto clean = results(1);
    const auto got = results(kNan);
    for (std::size_t i = 0; i < clean.size(); ++i) {
      EXPECT_LE(relative_error(got[i], clean[i]), slack(kernel, 1e-6)) << i;
    }
  }
}

TEST_P(AttentionHidden, RowsThatSeeNothingGiveNothing) {
  // By each of the ways to hide; the gradient of lse, which is -inf there, is dropped as well.
  struct Case {
    const char* name;
    std::int64_t queries, keys, dead_begin, dead_end;
    AttentionOptions options;
  };
  std::vector<bool> visible;
  std::vector<double> added;
  for (std::int64_t i = 0; i < 40; ++i) {
    for (std::int64_t j = 0; j < 30; ++j) {
      visible.push_back(i < 7 || i >= 12);
      added.push_back(visible.back() ? 0.5 : -kInfinity);
    }
  }
  const Case cases[] = {
      {"causal", 40, 30, 0, 10, {.causal = true}},
      {"window", 40, 30, 0, 8, {.window_right = 2}},
      {"window before the keys", 3, 30, 0, 0, {.window_left = 5, .window_right = 1}},
      {"bool mask", 40, 30, 7, 12, {.mask = from_vector(visible, {40, 30})}},
      {"added mask", 40, 30, 7, 12, {.mask = from_vector(added, {40, 30}).to(DType::f32)}},
  };
  for (const Kernel kernel : kernels()) {
    for (const Case& c : cases) {
      SCOPED_TRACE(std::string(c.name) + ", " + std::string(name(kernel)));
      AttentionOptions options = c.options;
      options.kernel = kernel;
      if (options.mask.defined()) options.mask = options.mask.to(device());
      Tensor q = random({1, c.queries, 2, 8}, 1).to(dtype()).to(device()).requires_grad_();
      Tensor k = random({1, c.keys, 1, 8}, 2).to(dtype()).to(device()).requires_grad_();
      Tensor v = random({1, c.keys, 1, 8}, 3).to(dtype()).to(device()).requires_grad_();
      const AttentionResult result = attention_with_lse(q, k, v, options);
      const Tensor dead = result.lse == -kInfinity;
      const auto count = static_cast<double>(2 * (c.dead_end - c.dead_begin));
      EXPECT_EQ(sum(dead).to_doubles()[0], count);
      EXPECT_EQ(sum(dead.narrow(2, c.dead_begin, c.dead_end - c.dead_begin)).to_doubles()[0], count);
      const std::vector<double> zero(static_cast<std::size_t>((c.dead_end - c.dead_begin) * 2 * 8), 0.0);
      EXPECT_EQ(part(result.out, c.dead_begin, c.dead_end), zero);
      (sum(result.out.to(DType::f32)) + sum(masked_fill(result.lse, dead, 0))).backward();
      EXPECT_EQ(part(q.grad(), c.dead_begin, c.dead_end), zero);
      for (const Tensor& t : {q.grad(), k.grad(), v.grad()}) {
        for (const double x : t.to_doubles()) ASSERT_TRUE(std::isfinite(x));
      }
      EXPECT_NE(norm(k.grad().to(DType::f32)).item<float>(), 0.0F);
    }
  }
}

TEST_P(AttentionHidden, TheLowestNumberHidesLessThanInfinity) {
  // Masks are often made of the dtype's lowest number. Beside visible keys that is as good as -inf; a row of nothing
  // else sees all keys alike, as exact arithmetic has it.
  const Tensor q = random({1, 3, 1, 8}, 1).to(dtype()).to(device());
  const Tensor k = random({1, 6, 1, 8}, 2).to(dtype()).to(device());
  const Tensor v = random({1, 6, 1, 8}, 3).to(dtype()).to(device());
  const float lowest = std::numeric_limits<float>::lowest();
  std::vector<float> added(18, 0.0F);
  for (std::size_t j = 0; j < 6; ++j) added[j] = lowest;
  for (std::size_t j = 6; j < 10; ++j) added[j] = lowest;
  for (const Kernel kernel : kernels()) {
    const Tensor out =
        scaled_dot_product_attention(q, k, v, {.mask = from_vector(added, {3, 6}).to(device()), .kernel = kernel});
    const Tensor two = scaled_dot_product_attention(q, k.narrow(1, 4, 2), v.narrow(1, 4, 2), {.kernel = kernel});
    const double limit = dtype() == DType::f32 ? 1e-6 : 1e-2;
    EXPECT_LE(relative_error(part(out, 0, 1), mean(v.to(DType::f32), {1}).to_doubles()), limit);
    EXPECT_LE(relative_error(part(out, 1, 2), part(two, 1, 2)), limit);
  }
}

}  // namespace
}  // namespace trinix::testing::attention_hidden
