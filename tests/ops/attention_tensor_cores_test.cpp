#include "attention_configuration.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <sstream>

#include <trinix/core/philox.h>

/// The tiled 16-bit kernels on a card, against f64 on the CPU.

namespace trinix::testing::attention_tensor_cores {
namespace {

enum class Placement { contiguous, packed, heads_first };
enum class CardMask { none, boolean, same, f32 };

struct Config {
  std::int64_t batch, queries, keys, key_heads, group, depth, value_depth;
  bool causal;
  std::int64_t left, right;
  double dropout;
  DType dtype;
  Placement placement;
  bool deterministic;
  bool slopes = false;
  CardMask mask = CardMask::none;
  Shape mask_shape = {};  ///< of the four dims
  double scale = 0;       ///< 0: the default

  [[nodiscard]] std::int64_t heads() const { return key_heads * group; }
  [[nodiscard]] std::string text() const {
    std::ostringstream text;
    text << "B " << batch << " Sq " << queries << " Sk " << keys << " Hkv " << key_heads << " x " << group << " D "
         << depth << " Dv " << value_depth << (causal ? " causal" : "") << " window " << left << ", " << right
         << " dropout " << dropout << ' ' << name(dtype) << " placement " << static_cast<int>(placement)
         << (deterministic ? " deterministic" : "") << (slopes ? " slopes" : "") << " mask " << static_cast<int>(mask)
         << ' ' << mask_shape.to_string() << " scale " << scale;
    return text.str();
  }
};

Config draw_config(std::uint64_t seed) {
  Draw d(seed);
  Config c{};
  c.dtype = seed % 2 == 0 ? DType::bf16 : DType::f16;
  c.deterministic = seed % 4 >= 2;
  c.batch = d.between(1, 2);
  c.queries = d.between(0, 3) == 0 ? d.between(1, 20) : d.between(30, 330);
  c.keys = d.between(0, 2) == 0 ? c.queries + 8 : d.between(9, 330);
  c.key_heads = d.between(1, 3);
  c.group = d.between(0, 1) == 0 ? 1 : d.between(2, 3);
  c.depth = 8 * d.between(1, 16);
  c.causal = d.between(0, 1) == 0;
  // At least a few keys per row: one key alone has a gradient of exactly zero, to which no error is relative.
  c.left = d.between(0, 2) == 0 ? d.between(4, 150) : -1;
  c.right = d.between(0, 2) == 0 ? d.between(0, 150) : -1;
  c.dropout = d.between(0, 2) == 0 ? 0.05 * static_cast<double>(d.between(1, 10)) : 0;
  c.placement = static_cast<Placement>(d.between(0, 2));
  if (c.placement == Placement::packed) c.keys = c.queries = std::max(c.queries, c.keys);
  c.value_depth = c.depth;
  return c;
}

/// The same with what the general kernels are for: slopes, masks, values of another depth, any head dim and scale.
Config draw_general_config(std::uint64_t seed) {
  Config c = draw_config(seed);
  Draw d(seed + 1000);
  // Of a mask's few elements the error says little; where each key has one query it is that of a handful of roundings.
  c.queries = std::max<std::int64_t>(c.queries, 12);
  c.keys = std::max<std::int64_t>(c.keys, 20);
  if (c.placement == Placement::packed) c.keys = c.queries = std::max(c.queries, c.keys);
  c.depth = d.between(0, 2) == 0 ? d.between(1, 256) : 8 * d.between(1, 32);
  c.value_depth = d.between(0, 1) == 0 ? c.depth : d.between(1, 256);
  if (c.value_depth != c.depth && c.placement == Placement::packed) c.placement = Placement::contiguous;
  c.slopes = d.between(0, 1) == 0;
  c.mask = static_cast<CardMask>(d.between(0, 3));
  c.mask_shape = {d.between(0, 1) == 0 ? 1 : c.batch, d.between(0, 1) == 0 ? 1 : c.heads(), c.queries, c.keys};
  if (d.between(0, 3) == 0) c.scale = d.between(0, 1) == 0 ? -0.1 : 0.2;
  return c;
}

Tensor uniform(const Shape& shape, std::uint64_t seed, double low = -2, double high = 2) {
  return from_vector(random_values(static_cast<std::size_t>(numel(shape)), seed, low, high), shape);
}

/// A third of the pairs hidden, but never the few keys that lie nearest to a query's own place.
Tensor visible_pairs(const Config& c, std::uint64_t seed) {
  std::vector<bool> visible;
  for (std::int64_t i = 0; i < numel(c.mask_shape); ++i) {
    const std::int64_t away = i % c.keys - i / c.keys % c.queries - (c.keys - c.queries);
    visible.push_back((away > -8 && away <= 0) || philox(seed, static_cast<std::uint64_t>(i)).x[0] % 3 != 0);
  }
  return from_vector(visible, c.mask_shape);
}

/// The mask on the CPU, none for CardMask::none. A floating one hides where the boolean one would.
Tensor mask_of(const Config& c, std::uint64_t seed) {
  if (c.mask == CardMask::none) return {};
  const Tensor visible = visible_pairs(c, seed);
  if (c.mask == CardMask::boolean) return visible;
  const Tensor added = uniform(c.mask_shape, seed).to(c.mask == CardMask::f32 ? DType::f32 : c.dtype);
  return masked_fill(added, logical_not(visible), -std::numeric_limits<double>::infinity());
}

/// (q, k, v) on the device, lying as the placement says.
std::vector<Tensor> place(const std::vector<Tensor>& values, Placement placement, Device device) {
  std::vector<Tensor> placed;
  if (placement == Placement::packed) {
    const Tensor whole = cat({values[0], values[1], values[2]}, 2).to(device);
    std::int64_t at = 0;
    for (const Tensor& t : values) {
      placed.push_back(whole.narrow(2, at, t.size(2)).detach());
      at += t.size(2);
    }
    return placed;
  }
  for (const Tensor& t : values) {
    placed.push_back(placement == Placement::contiguous
                         ? t.to(device)
                         : t.permute({0, 2, 1, 3}).contiguous().to(device).permute({0, 2, 1, 3}).detach());
  }
  return placed;
}

/// Output, lse, and the gradients of q, k, v and a floating mask, as doubles.
std::vector<std::vector<double>> run(const Config& c, std::vector<Tensor> leaves, const Tensor& direction,
                                     Kernel kernel, Tensor mask = {}) {
  const DType dtype = leaves[0].dtype();
  const Device device = leaves[0].device();
  std::optional<HangWatch> watch;
  if (!device.is_cpu()) watch.emplace(std::string(name(kernel)) + ", " + c.text());
  for (Tensor& t : leaves) t.requires_grad_();
  if (mask.defined()) {
    mask = mask.to(device);
    if (is_floating(mask.dtype())) {
      // In f64 the same numbers; f32 otherwise stays f32 beside the 16-bit operands.
      if (dtype == DType::f64) mask = mask.to(DType::f64);
      leaves.push_back(mask.requires_grad_());
    }
  }
  std::vector<float> slopes;
  for (std::int64_t h = 0; h < c.heads(); ++h) slopes.push_back(0.3F / static_cast<float>(h + 1));
  Generator generator(7);
  const AttentionResult both = attention_with_lse(leaves[0], leaves[1], leaves[2],
                                                  {.causal = c.causal,
                                                   .window_left = c.left,
                                                   .window_right = c.right,
                                                   .alibi_slopes = c.slopes ? from_vector(slopes).to(device) : Tensor(),
                                                   .mask = mask,
                                                   .dropout = c.dropout,
                                                   .scale = c.scale == 0 ? std::optional<double>() : c.scale,
                                                   .kernel = kernel,
                                                   .generator = &generator});
  note_kernels_run();
  std::vector<std::vector<double>> result = {both.out.to_doubles(), both.lse.to_doubles()};
  // The seen rows' lse has a share in the gradient.
  const Tensor seen = masked_fill(both.lse, both.lse == -std::numeric_limits<double>::infinity(), 0.0);
  const Tensor loss = sum(both.out * direction.to(dtype).to(device)).to(seen.dtype()) + sum(seen) * 0.1;
  for (const Tensor& g : grad(loss, leaves)) result.push_back(g.to_doubles());
  return result;
}

class AttentionOnTensorCores : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!is_available(Device::cuda())) GTEST_SKIP() << "needs a card";
  }
  void TearDown() override { set_deterministic(false); }
};

/// The families that take heads of this many columns on this card.
std::vector<Kernel> families(std::int64_t depth) {
  std::vector<Kernel> kernels = {Kernel::fused};
  if (depth <= 128 && has_flash(Device::cuda())) kernels.push_back(Kernel::flash);
  return kernels;
}

/// Everything that run() gives, with an error at most twice that of the composed form in the same dtype.
void expect_exact(const Config& c, std::uint64_t seed) {
  const Shape query_shape{c.batch, c.queries, c.heads(), c.depth};
  const Shape key_shape{c.batch, c.keys, c.key_heads, c.depth};
  const Shape value_shape{c.batch, c.keys, c.key_heads, c.value_depth};
  std::vector<Tensor> rounded;
  std::vector<Tensor> exact;
  for (const Shape& shape : {query_shape, key_shape, value_shape}) {
    rounded.push_back(uniform(shape, 10 * seed + rounded.size()).to(c.dtype));
    exact.push_back(rounded.back().to(DType::f64));
  }
  const Tensor direction = uniform({c.batch, c.queries, c.heads(), c.value_depth}, 10 * seed + 3, -1, 1).to(c.dtype);
  const Tensor mask = mask_of(c, 10 * seed + 4);
  set_deterministic(c.deterministic);
  const auto expected = run(c, exact, direction, Kernel::reference, mask);
  const auto composed = run(c, rounded, direction, Kernel::reference, mask);
  const char* names[] = {"out", "lse", "dq", "dk", "dv", "dmask"};
  for (const Kernel kernel : families(std::max(c.depth, c.value_depth))) {
    const auto got = run(c, place(rounded, c.placement, Device::cuda()), direction, kernel, mask);
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double limit = 2 * relative_error(composed[i], expected[i]);
      EXPECT_LE(relative_error(got[i], expected[i]), limit) << names[i] << " by " << name(kernel);
    }
  }
}

TEST_F(AttentionOnTensorCores, RandomConfigurationsAreAsExactAsTheComposedForm) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const Config c = draw_config(seed);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.text());
    expect_exact(c, seed);
  }
}

TEST_F(AttentionOnTensorCores, AnyCombinationOfOptionsIsAsExactAsTheComposedForm) {
  for (std::uint64_t seed = 200; seed < 320; ++seed) {
    const Config c = draw_general_config(seed);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.text());
    expect_exact(c, seed);
  }
}

TEST_F(AttentionOnTensorCores, EveryWidthIsAsExactAsTheComposedForm) {
  for (const std::int64_t depth : {1, 7, 40, 64, 65, 80, 96, 100, 128, 129, 160, 192, 200, 256}) {
    for (const bool deterministic : {false, true}) {
      const Config c{.batch = 2,
                     .queries = 150,
                     .keys = 170,
                     .key_heads = 1,
                     .group = 2,
                     .depth = depth,
                     .value_depth = depth,
                     .causal = true,
                     .left = -1,
                     .right = -1,
                     .dropout = 0,
                     .dtype = depth % 2 == 0 ? DType::bf16 : DType::f16,
                     .placement = Placement::contiguous,
                     .deterministic = deterministic};
      SCOPED_TRACE(c.text());
      expect_exact(c, static_cast<std::uint64_t>(depth));
    }
  }
}

TEST_F(AttentionOnTensorCores, RepeatsGiveTheSameBits) {
  for (const std::int64_t depth : {64, 128, 192, 256}) {
    const Config c{.batch = 2,
                   .queries = 300,
                   .keys = 700,
                   .key_heads = 2,
                   .group = 2,
                   .depth = depth,
                   .value_depth = depth,
                   .causal = true,
                   .left = -1,
                   .right = -1,
                   .dropout = depth == 64 ? 0.1 : 0,
                   .dtype = DType::bf16,
                   .placement = Placement::contiguous,
                   .deterministic = true,
                   .slopes = depth == 192,
                   .mask = depth == 256 ? CardMask::f32 : CardMask::none,
                   .mask_shape = {1, 1, 300, 700}};
    std::vector<Tensor> leaves;
    for (std::uint64_t i = 0; i < 3; ++i) {
      const Shape shape{c.batch, i == 0 ? c.queries : c.keys, i == 0 ? c.heads() : c.key_heads, depth};
      leaves.push_back(uniform(shape, i).to(c.dtype).to(Device::cuda()));
    }
    const Tensor direction = uniform(leaves[0].shape(), 3);
    const Tensor mask = mask_of(c, 4);
    set_deterministic(true);
    for (const Kernel kernel : families(depth)) {
      const auto first = run(c, leaves, direction, kernel, mask);
      for (int repeat = 0; repeat < 10; ++repeat) EXPECT_EQ(run(c, leaves, direction, kernel, mask), first);
    }
  }
}

TEST_F(AttentionOnTensorCores, SequencesOfAnyLengthsAreAsExactAsTheComposedForm) {
  // Lengths of the queries and keys: none, one, those of a tile and their neighbours, and several tiles.
  const std::vector<std::int64_t> query_lengths = {5, 0, 1, 128, 200, 63, 0, 300};
  const std::vector<std::int64_t> key_lengths = {9, 70, 0, 64, 260, 65, 0, 129};
  const auto starts = [](const std::vector<std::int64_t>& lengths) {
    std::vector<std::int32_t> list = {0};
    for (const std::int64_t n : lengths) list.push_back(list.back() + static_cast<std::int32_t>(n));
    return list;
  };
  for (const std::int64_t depth : {40, 64, 96, 128, 192, 256}) {
    for (const bool deterministic : {false, true}) {
      SCOPED_TRACE("D " + std::to_string(depth) + (deterministic ? " deterministic" : ""));
      set_deterministic(deterministic);
      const auto query_starts = starts(query_lengths);
      const auto key_starts = starts(key_lengths);
      std::vector<Tensor> rounded;
      for (const auto& [total, heads] :
           {std::pair{query_starts.back(), 4}, {key_starts.back(), 2}, {key_starts.back(), 2}}) {
        rounded.push_back(uniform({total, heads, depth}, 7 + rounded.size()).to(DType::bf16));
      }
      const Tensor direction = uniform(rounded[0].shape(), 10, -1, 1).to(DType::bf16);
      const auto gradients = [&](DType dtype, Device device, Kernel kernel) {
        std::vector<Tensor> leaves;
        for (const Tensor& t : rounded) leaves.push_back(t.to(dtype).to(device).requires_grad_());
        Generator generator(5);
        const std::vector<float> slopes = {0.3F, 0.1F, 0.03F, 0.01F};
        const AttentionResult both =
            attention_varlen_with_lse(leaves[0], leaves[1], leaves[2], from_vector(query_starts).to(device),
                                      from_vector(key_starts).to(device), 300, 260,
                                      {.causal = depth != 96,
                                       .window_left = depth == 128 ? 50 : -1,
                                       .alibi_slopes = depth == 64 ? from_vector(slopes).to(device) : Tensor(),
                                       .dropout = depth == 40 || depth == 256 ? 0.2 : 0,
                                       .kernel = kernel,
                                       .generator = &generator});
        note_kernels_run();
        std::vector<std::vector<double>> result = {both.out.to_doubles(), both.lse.to_doubles()};
        for (const Tensor& g : grad(both.out, leaves, direction.to(dtype).to(device))) result.push_back(g.to_doubles());
        return result;
      };
      const auto expected = gradients(DType::f64, Device::cpu(), Kernel::reference);
      const auto composed = gradients(DType::bf16, Device::cpu(), Kernel::reference);
      const char* names[] = {"out", "lse", "dq", "dk", "dv"};
      for (const Kernel kernel : families(depth)) {
        const auto got = gradients(DType::bf16, Device::cuda(), kernel);
        for (std::size_t i = 0; i < got.size(); ++i) {
          const double limit = 2 * relative_error(composed[i], expected[i]);
          EXPECT_LE(relative_error(got[i], expected[i]), limit) << names[i] << " by " << name(kernel);
        }
      }
    }
  }
}

TEST_F(AttentionOnTensorCores, NothingLeaksFromHiddenQueriesKeysAndValues) {
  // The last keys are hidden from the first queries, by the diagonal, a mask, or both; the first queries see the first
  // keys. NaN and infinity in the last keys, values and queries must not reach what the first ones get.
  const std::int64_t length = 200;
  const std::int64_t seen = 117;  // amid a tile
  const auto poisoned = [&](const Tensor& t, bool poison) {
    std::vector<double> values = t.to_doubles();
    const auto row = values.size() / static_cast<std::size_t>(length);
    for (std::size_t i = static_cast<std::size_t>(seen) * row; poison && i < values.size(); ++i) {
      values[i] = i % 3 == 0   ? std::numeric_limits<double>::quiet_NaN()
                  : i % 3 == 1 ? std::numeric_limits<double>::infinity()
                               : values[i];
    }
    return from_vector(std::vector<float>(values.begin(), values.end()), t.shape()).to(DType::bf16);
  };
  std::vector<bool> visible;
  for (std::int64_t i = 0; i < length * length; ++i) {
    visible.push_back((i % length < seen) == (i / length < seen) && i / length < length - 20);
  }
  const Tensor boolean = from_vector(visible, {length, length});
  const Tensor floating =
      masked_fill(zeros({length, length}), logical_not(boolean), -std::numeric_limits<double>::infinity());
  for (const std::int64_t depth : {64, 96, 128, 192, 256}) {
    for (int kind = 0; kind < 4; ++kind) {  // causal; causal with dropout; boolean; floating
      for (const bool deterministic : {false, true}) {
        SCOPED_TRACE("D " + std::to_string(depth) + " kind " + std::to_string(kind) +
                     (deterministic ? " deterministic" : ""));
        set_deterministic(deterministic);
        const auto firsts = [&](Kernel kernel, bool poison) {
          std::vector<Tensor> leaves;
          for (std::uint64_t i = 0; i < 3; ++i) {
            // Under the diagonal the last queries see the first keys, whose gradients they may then spoil.
            leaves.push_back(poisoned(uniform({1, length, 1, depth}, i), poison && (i > 0 || kind >= 2))
                                 .to(Device::cuda())
                                 .requires_grad_());
          }
          Generator generator(3);
          const Tensor out = scaled_dot_product_attention(leaves[0], leaves[1], leaves[2],
                                                          {.causal = kind < 2,
                                                           .mask = kind == 2   ? boolean.to(Device::cuda())
                                                                   : kind == 3 ? floating.to(Device::cuda())
                                                                               : Tensor(),
                                                           .dropout = kind == 1 ? 0.2 : 0,
                                                           .kernel = kernel,
                                                           .generator = &generator});
          note_kernels_run();
          std::vector<std::vector<double>> result = {out.narrow(1, 0, seen).to_doubles()};
          const auto gradients = grad(out, leaves, uniform(out.shape(), 4).to(DType::bf16).to(Device::cuda()));
          result.push_back(gradients[0].narrow(1, 0, seen).to_doubles());
          if (kind >= 2) {
            result.push_back(gradients[1].narrow(1, 0, seen).to_doubles());
            result.push_back(gradients[2].narrow(1, 0, seen).to_doubles());
            // The last twenty queries see nothing.
            result.push_back(out.narrow(1, length - 20, 20).to_doubles());
            result.push_back(gradients[0].narrow(1, length - 20, 20).to_doubles());
          }
          return result;
        };
        for (const Kernel kernel : families(depth)) {
          const auto clean = firsts(kernel, false);
          const auto spoilt = firsts(kernel, true);
          for (std::size_t i = 0; i < clean.size(); ++i) {
            // A warp follows the largest of its rows' scores, so the last bits depend on the neighbours.
            EXPECT_LE(relative_error(spoilt[i], clean[i]), 1e-2) << i << " by " << name(kernel);
          }
        }
      }
    }
  }
}

TEST_F(AttentionOnTensorCores, WhoSeesNaNGetsNaN) {
  const auto expect_spread = [](Kernel kernel, std::int64_t depth) {
    for (int which = 0; which < 3; ++which) {
      std::vector<Tensor> leaves;
      for (int i = 0; i < 3; ++i) {
        std::vector<double> values =
            random_values(static_cast<std::size_t>(100 * depth), static_cast<std::uint64_t>(i));
        if (i == which) values[static_cast<std::size_t>(50 * depth)] = std::numeric_limits<double>::quiet_NaN();
        leaves.push_back(from_vector(values, {1, 100, 1, depth}).to(DType::bf16).to(Device::cuda()).requires_grad_());
      }
      const Tensor out =
          scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], {.causal = true, .kernel = kernel});
      note_kernels_run();
      const auto isnan_at = [&](const Tensor& t, std::int64_t row) {
        return std::isnan(t.select(1, row).to_doubles()[0]);
      };
      EXPECT_FALSE(isnan_at(out, 49)) << which;
      EXPECT_TRUE(isnan_at(out, 50)) << which;
      EXPECT_EQ(isnan_at(out, 51), which > 0) << which;
      const auto gradients = grad(out, leaves, ones(out.shape(), {out.dtype(), out.device()}));
      EXPECT_FALSE(isnan_at(gradients[0], 49)) << which;
      EXPECT_TRUE(isnan_at(gradients[0], 50)) << which;
      EXPECT_TRUE(isnan_at(gradients[1], 50)) << which;
      if (which == 0) {  // the row of the query reaches the keys that it sees, and no other
        EXPECT_FALSE(isnan_at(gradients[1], 51));
        EXPECT_FALSE(isnan_at(gradients[2], 51));
      }
    }
  };
  for (const std::int64_t depth : {64, 128, 256}) {
    for (const Kernel kernel : families(depth)) {
      SCOPED_TRACE(std::string(name(kernel)) + ", D " + std::to_string(depth));
      expect_spread(kernel, depth);
    }
  }
}

TEST_F(AttentionOnTensorCores, GradientsArriveForTheOutputsOfAnyLayout) {
  // sum() gives a gradient that repeats one number; the transposed output one whose rows do not lie together.
  const Shape shape{1, 70, 2, 16};
  std::vector<Tensor> leaves;
  for (std::uint64_t i = 0; i < 3; ++i) {
    leaves.push_back(uniform(shape, i).to(DType::bf16).to(Device::cuda()).requires_grad_());
  }
  const Tensor weights = uniform({16, 2, 70, 1}, 4).to(DType::bf16).to(Device::cuda());
  const auto gradients = [&](Kernel kernel, bool turned) {
    const Tensor out = scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], {.kernel = kernel});
    const Tensor loss = turned ? sum(out.permute({3, 2, 1, 0}) * weights) : sum(out);
    std::vector<std::vector<double>> result;
    for (const Tensor& g : grad(loss, leaves)) result.push_back(g.to_doubles());
    return result;
  };
  for (const Kernel kernel : families(16)) {
    EXPECT_LE(relative_error(gradients(kernel, false)[2], gradients(Kernel::reference, false)[2]), 1e-2);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_LE(relative_error(gradients(kernel, true)[i], gradients(Kernel::reference, true)[i]), 2e-2);
    }
  }
}

TEST_F(AttentionOnTensorCores, RefusalsSayWhy) {
  const auto message = [](std::int64_t depth, DType dtype, std::optional<double> scale = {},
                          Kernel kernel = Kernel::fused) -> std::string {
    const Tensor x = zeros({1, 17, 2, depth}, {dtype, Device::cuda()});  // 16 queries go to a kernel of their own
    try {
      static_cast<void>(scaled_dot_product_attention(x, x, x, {.scale = scale, .kernel = kernel}));
    } catch (const KernelUnavailable& e) {
      return e.what();
    }
    return "no exception";
  };
  EXPECT_NE(message(64, DType::f32).find("takes bf16 and f16"), std::string::npos);
  EXPECT_NE(message(257, DType::bf16).find("head dims up to 256"), std::string::npos);
  for (const std::int64_t depth : {20, 64, 136, 256}) EXPECT_EQ(message(depth, DType::bf16), "no exception");
  EXPECT_EQ(message(64, DType::bf16, -1.0), "no exception");
  EXPECT_NE(message(64, DType::f32, {}, Kernel::flash).find("takes bf16 and f16"), std::string::npos);
  if (!has_flash(Device::cuda())) {
    EXPECT_NE(message(64, DType::bf16, {}, Kernel::flash).find("runs on Hopper"), std::string::npos);
    return;
  }
  EXPECT_NE(message(257, DType::bf16, {}, Kernel::flash).find("head dims up to 256"), std::string::npos);
  for (const std::int64_t depth : {1, 20, 64, 96, 128, 129, 192, 256}) {
    EXPECT_EQ(message(depth, DType::bf16, {}, Kernel::flash), "no exception");
  }
  EXPECT_EQ(message(64, DType::bf16, -1.0, Kernel::flash), "no exception");
}

}  // namespace
}  // namespace trinix::testing::attention_tensor_cores
