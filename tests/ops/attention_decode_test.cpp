#include "attention_configuration.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <sstream>

/// A few queries over many keys on a card, without gradients: against f64, with an error at most twice that of the
/// composed form in the same dtype.

namespace trinix::testing::attention_decode {
namespace {

enum class Mask { none, boolean, own, f32 };

struct Config {
  DType dtype = DType::bf16;
  std::int64_t batch = 1, queries = 1, keys = 1, key_heads = 1, group = 1, depth = 64, value_depth = 64;
  bool causal = false;
  std::int64_t left = -1, right = -1;
  bool slopes = false;
  Mask mask = Mask::none;
  bool shared_mask = false;
  bool heads_first = false;  ///< in memory
  double scale = 0;          ///< 0: the default
  std::vector<std::int32_t> query_starts = {}, key_starts = {};

  [[nodiscard]] std::int64_t heads() const { return key_heads * group; }
  [[nodiscard]] bool several() const { return !query_starts.empty(); }
  [[nodiscard]] std::string text() const {
    std::ostringstream text;
    text << name(dtype) << " B " << batch << " Sq " << queries << " Sk " << keys << " Hkv " << key_heads << " x "
         << group << " D " << depth << " Dv " << value_depth << (causal ? " causal" : "") << " window " << left << ", "
         << right << (slopes ? " slopes" : "") << " mask " << static_cast<int>(mask) << (shared_mask ? " shared" : "")
         << (heads_first ? " heads first" : "") << " scale " << scale << (several() ? " several" : "");
    return text.str();
  }
};

Tensor uniform(const Shape& shape, std::uint64_t seed, double low = -2, double high = 2) {
  Generator generator(seed);
  return rand(shape, {DType::f32, Device::cuda()}, &generator) * (high - low) + low;
}

struct Operands {
  Tensor q, k, v, mask, slopes;  ///< rounded to the dtype, on the card
};

Operands draw_operands(const Config& c, std::uint64_t seed) {
  const auto shape = [&](const std::vector<std::int32_t>& starts, std::int64_t length, std::int64_t heads,
                         std::int64_t depth) -> Shape {
    if (c.several()) return {starts.back(), heads, depth};
    return {c.batch, length, heads, depth};
  };
  Operands x;
  x.q = uniform(shape(c.query_starts, c.queries, c.heads(), c.depth), 10 * seed).to(c.dtype);
  x.k = uniform(shape(c.key_starts, c.keys, c.key_heads, c.depth), 10 * seed + 1).to(c.dtype);
  x.v = uniform(shape(c.key_starts, c.keys, c.key_heads, c.value_depth), 10 * seed + 2).to(c.dtype);
  if (c.slopes) x.slopes = uniform({c.heads()}, 10 * seed + 3, 0, 0.1).to(DType::f32);
  if (c.mask == Mask::none) return x;
  const Shape of_mask{c.shared_mask ? 1 : c.batch, c.shared_mask ? 1 : c.heads(), c.queries, c.keys};
  const Tensor added = uniform(of_mask, 10 * seed + 4);
  const Tensor hidden = uniform(of_mask, 10 * seed + 5) > 1;
  if (c.mask == Mask::boolean) {
    x.mask = logical_not(hidden);
  } else {
    x.mask = masked_fill(added, hidden, -kInfinity).to(c.mask == Mask::f32 ? DType::f32 : c.dtype);
  }
  return x;
}

/// Output and lse, in `dtype`.
AttentionResult run(const Config& c, const Operands& x, DType dtype, Kernel kernel) {
  const auto placed = [&](const Tensor& t) {
    const Tensor y = t.to(dtype);
    const int length = y.rank() - 3;
    return c.heads_first ? y.transpose(length, length + 1).contiguous().transpose(length, length + 1) : y;
  };
  AttentionOptions options{.causal = c.causal,
                           .window_left = c.left,
                           .window_right = c.right,
                           .alibi_slopes = x.slopes,
                           .mask = x.mask,
                           .scale = c.scale == 0 ? std::optional<double>() : c.scale,
                           .kernel = kernel};
  if (dtype == DType::f64 && options.mask.defined() && options.mask.dtype() != DType::boolean) {
    options.mask = options.mask.to(DType::f64);
  }
  if (!c.several()) return attention_with_lse(placed(x.q), placed(x.k), placed(x.v), options);
  const auto starts = [](const std::vector<std::int32_t>& list) { return from_vector(list).to(Device::cuda()); };
  return attention_varlen_with_lse(placed(x.q), placed(x.k), placed(x.v), starts(c.query_starts), starts(c.key_starts),
                                   c.queries, c.keys, options);
}

void expect_exact(const Config& c, std::uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.text());
  const Operands x = draw_operands(c, seed);
  const AttentionResult expected = run(c, x, DType::f64, Kernel::reference);
  const AttentionResult composed = run(c, x, c.dtype, Kernel::reference);
  const AttentionResult got = run(c, x, c.dtype, Kernel::flash);
  EXPECT_EQ(last_kernel("attention"), "cuda_decode");
  note_kernels_run();
  const auto exact = expected.out.to_doubles();
  const auto exact_lse = expected.lse.to_doubles();
  // What nobody does better: out is rounded to its dtype; scores and lse are rounded to f32, each to a unit of its
  // size.
  double largest = 0;
  for (const double lse : exact_lse) largest = std::max(largest, std::isfinite(lse) ? std::abs(lse) : 0);
  const double p_error = (4 + 2 * largest) * 0x1p-24;
  EXPECT_LE(distance(got.out.to_doubles(), exact),
            std::max(2 * distance(composed.out.to_doubles(), exact), (p_error + unit_of(c.dtype)) * norm_of(exact)))
      << "out";
  EXPECT_LE(distance(got.lse.to_doubles(), exact_lse),
            std::max(2 * distance(composed.lse.to_doubles(), exact_lse), p_error * norm_of(exact_lse)))
      << "lse";
}

class AttentionDecode : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!is_available(Device::cuda())) GTEST_SKIP() << "needs a card";
    watch_.emplace("AttentionDecode");
  }
  void TearDown() override { watch_.reset(); }

 private:
  std::optional<HangWatch> watch_;
};

TEST_F(AttentionDecode, EveryShapeIsAsExactAsTheComposedForm) {
  std::uint64_t seed = 0;
  for (const std::int64_t depth : {40, 64, 128, 256}) {
    for (const std::int64_t keys : {1, 63, 64, 1000, 8192}) {
      for (const std::int64_t group : {1, 4, 8, 32}) {
        for (const std::int64_t queries : {1, 3, 8, 16}) {
          expect_exact({.dtype = seed % 2 == 0 ? DType::bf16 : DType::f16,
                        .batch = keys == 8192 ? 1 : 2,
                        .queries = queries,
                        .keys = keys,
                        .key_heads = group == 32 ? 1 : 2,
                        .group = group,
                        .depth = depth,
                        .value_depth = depth,
                        .causal = seed % 3 == 0},
                       seed);
          ++seed;
        }
      }
    }
  }
}

TEST_F(AttentionDecode, AnyCombinationOfOptionsIsAsExactAsTheComposedForm) {
  for (std::uint64_t seed = 1000; seed < 1200; ++seed) {
    Draw d(seed);
    Config c{.dtype = d.one_in(2) ? DType::bf16 : DType::f16,
             .batch = d.between(1, 5),
             .queries = d.between(1, 16),
             .keys = d.one_in(2) ? d.between(1, 300) : d.between(300, 3000),
             .key_heads = d.between(1, 3),
             .group = d.between(1, 9),
             .depth = d.one_in(4) ? d.between(1, 256) : 8 * d.between(1, 32),
             .causal = d.one_in(2),
             .left = d.one_in(3) ? d.between(0, 500) : -1,
             .right = d.one_in(4) ? d.between(0, 50) : -1,
             .slopes = d.one_in(2),
             .mask = static_cast<Mask>(d.between(0, 3)),
             .shared_mask = d.one_in(2),
             .heads_first = d.one_in(2)};
    c.value_depth = d.one_in(2) ? c.depth : d.between(1, 256);
    if (d.one_in(4)) c.scale = d.one_in(2) ? -0.1 : 0.2;
    if (d.one_in(4)) {
      c.mask = Mask::none;
      c.query_starts = {0};
      c.key_starts = {0};
      for (std::int64_t n = 0; n < c.batch; ++n) {
        const auto any = [&](std::int64_t most) {
          return static_cast<std::int32_t>(d.one_in(6) ? 0 : d.between(1, most));
        };
        c.query_starts.push_back(c.query_starts.back() + any(c.queries));
        c.key_starts.push_back(c.key_starts.back() + any(c.keys));
      }
      if (c.query_starts.back() == 0) c.query_starts.back() = 1;
      if (c.key_starts.back() == 0) c.key_starts.back() = 1;
    }
    expect_exact(c, seed);
  }
}

TEST_F(AttentionDecode, SequencesOfAnyLengthsAreAsExactAsTheComposedForm) {
  for (const std::int64_t depth : {40, 64, 128, 256}) {
    for (const bool causal : {false, true}) {
      expect_exact({.queries = 16,
                    .keys = 5000,
                    .key_heads = 2,
                    .group = 4,
                    .depth = depth,
                    .value_depth = depth,
                    .causal = causal,
                    .left = depth == 128 ? 700 : -1,
                    .slopes = depth == 64,
                    .query_starts = {0, 1, 1, 17, 18, 21, 22},
                    .key_starts = {0, 64, 70, 5070, 5070, 5071, 6000}},
                   2000 + static_cast<std::uint64_t>(depth));
    }
  }
}

TEST_F(AttentionDecode, RepeatsGiveTheSameBits) {
  for (const std::int64_t group : {1, 8}) {
    for (const std::int64_t depth : {64, 128, 256}) {
      const Config c{
          .batch = 3, .queries = 5, .keys = 6000, .key_heads = 2, .group = group, .depth = depth, .value_depth = depth};
      const Operands x = draw_operands(c, 1);
      const AttentionResult first = run(c, x, c.dtype, Kernel::flash);
      for (int repeat = 0; repeat < 10; ++repeat) {
        const AttentionResult again = run(c, x, c.dtype, Kernel::flash);
        EXPECT_EQ(again.out.to_doubles(), first.out.to_doubles());
        EXPECT_EQ(again.lse.to_doubles(), first.lse.to_doubles());
      }
    }
  }
}

/// `x` with NaN and infinity at the positions [begin, end) of its dim `dim`.
Tensor poisoned(const Tensor& x, int dim, std::int64_t begin, std::int64_t end) {
  const Tensor y = x.clone();
  for (std::int64_t i = begin; i < end; ++i) {
    y.select(dim, i).copy_(full({}, i % 2 == 0 ? kNan : kInfinity, {x.dtype(), x.device()}));
  }
  return y;
}

TEST_F(AttentionDecode, WhatACacheHoldsBehindItsLastKeyIsNotSeen) {
  // A cache of 1100 places, of which 1000 are filled: the view of these, a boolean or floating mask of the others,
  // sequences that end before theirs, or the diagonal with more queries than the first may see.
  const std::int64_t places = 1100, filled = 1000;
  for (const std::int64_t depth : {40, 128, 256}) {
    for (const std::int64_t queries : {1, 16}) {
      const Config c{
          .queries = queries, .keys = places, .key_heads = 2, .group = 4, .depth = depth, .value_depth = depth};
      const Operands x = draw_operands(c, 5);
      const auto attend = [&](const Tensor& k, const Tensor& v, AttentionOptions options) {
        options.kernel = Kernel::flash;
        const AttentionResult r = attention_with_lse(x.q, k, v, options);
        EXPECT_EQ(last_kernel("attention"), "cuda_decode");
        return std::vector<std::vector<double>>{r.out.to_doubles(), r.lse.to_doubles()};
      };
      const Tensor bad_k = poisoned(x.k, 1, filled, places), bad_v = poisoned(x.v, 1, filled, places);
      const auto view = [&](const Tensor& t) { return t.narrow(1, 0, filled); };
      const auto expected = attend(view(x.k).contiguous(), view(x.v).contiguous(), {});
      EXPECT_EQ(attend(view(bad_k), view(bad_v), {}), expected);

      std::vector<bool> visible;
      for (std::int64_t i = 0; i < queries * places; ++i) visible.push_back(i % places < filled);
      const Tensor boolean = from_vector(visible, {queries, places}).to(Device::cuda());
      const Tensor floating =
          masked_fill(zeros({queries, places}, {DType::f32, Device::cuda()}), logical_not(boolean), -kInfinity);
      for (const Tensor& mask : {boolean, floating}) {
        const auto got = attend(bad_k, bad_v, {.mask = mask});
        for (std::size_t i = 0; i < 2; ++i) EXPECT_LE(relative_error(got[i], expected[i]), 2e-3) << i;
      }

      // The keys that all but the first queries see hold NaN: these alone are NaN.
      const Tensor late_k = poisoned(x.k, 1, places - queries + 1, places);
      const Tensor late_v = poisoned(x.v, 1, places - queries + 1, places);
      const auto all = attend(x.k, x.v, {.causal = true});
      const auto late = attend(late_k, late_v, {.causal = true});
      const auto row = static_cast<std::size_t>(c.heads() * depth);
      for (std::size_t i = 0; i < all[0].size(); ++i) {
        if (i < row) {
          EXPECT_NEAR(late[0][i], all[0][i], 0.02) << i;
        } else {
          EXPECT_TRUE(std::isnan(late[0][i])) << i;
        }
      }
    }
  }
}

TEST_F(AttentionDecode, WhoSeesNothingGetsZeros) {
  for (const std::int64_t depth : {64, 128, 256}) {
    const Config c{.queries = 12, .keys = 2000, .key_heads = 2, .group = 4, .depth = depth, .value_depth = depth};
    const Operands x = draw_operands(c, 6);
    std::vector<bool> visible;
    for (std::int64_t i = 0; i < 12 * 2000; ++i) visible.push_back(i / 2000 % 2 == 0);
    const Tensor mask = from_vector(visible, {12, 2000}).to(Device::cuda());
    const AttentionResult r = attention_with_lse(x.q, x.k, x.v, {.mask = mask, .kernel = Kernel::flash});
    const AttentionResult all = attention_with_lse(x.q, x.k, x.v, {.kernel = Kernel::flash});
    for (std::int64_t i = 0; i < 12; ++i) {
      if (i % 2 == 0) {
        EXPECT_EQ(r.out.select(1, i).to_doubles(), all.out.select(1, i).to_doubles());
        continue;
      }
      for (const double value : r.out.select(1, i).to_doubles()) EXPECT_EQ(value, 0);
      for (const double value : r.lse.select(2, i).to_doubles()) EXPECT_EQ(value, -kInfinity);
    }
  }
  // Keys before the first that a causal row sees: Sq greater than Sk.
  const Config few{
      .queries = 16, .keys = 5, .key_heads = 1, .group = 2, .depth = 64, .value_depth = 64, .causal = true};
  expect_exact(few, 7);
}

TEST_F(AttentionDecode, IsChosenForFewQueriesWithoutGradients) {
  const auto chosen = [](std::int64_t queries, bool learns, double dropout) {
    Tensor q = zeros({1, queries, 4, 64}, {DType::bf16, Device::cuda()});
    const Tensor k = zeros({1, 100, 2, 64}, {DType::bf16, Device::cuda()});
    if (learns) q.requires_grad_();
    static_cast<void>(scaled_dot_product_attention(q, k, k, {.dropout = dropout}));
    return last_kernel("attention");
  };
  EXPECT_EQ(chosen(1, false, 0), "cuda_decode");
  EXPECT_EQ(chosen(16, false, 0), "cuda_decode");
  EXPECT_NE(chosen(17, false, 0), "cuda_decode");
  EXPECT_NE(chosen(1, true, 0), "cuda_decode");
  EXPECT_NE(chosen(1, false, 0.5), "cuda_decode");
  const Tensor q = zeros({1, 1, 4, 264}, {DType::bf16, Device::cuda()});
  try {
    static_cast<void>(scaled_dot_product_attention(q, q, q, {.kernel = Kernel::flash}));
    ADD_FAILURE() << "no exception";
  } catch (const KernelUnavailable& e) {
    EXPECT_NE(std::string(e.what()).find("takes head dims up to 256"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace trinix::testing::attention_decode
