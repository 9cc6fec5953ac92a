#include "attention_configuration.h"

#include <gtest/gtest.h>

/// The kernels for Hopper: 500 random configurations of the sizes at which tiles begin and end, and equal bits.
///
/// The definition would take hours at these sizes. What stands in for it is the composed form in f64 on the card, which
/// attention_random_test.cpp holds against the definition.

namespace trinix::testing::attention_flash {
namespace {

Device card() { return Device::cuda(); }

class FlashOnHopper : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!is_available(card())) GTEST_SKIP() << "needs a card";
    if (has_flash(card())) return;
    note_kernel_left_out("attention", "cuda_wgmma");
    GTEST_SKIP() << "needs a Hopper, and code for sm_90a";
  }
};

/// One of the lengths at which something changes (tiles have 64, 128 or 192 rows), or any.
std::int64_t draw_length(Draw& d) {
  if (d.one_in(6)) return d.between(1, 3);
  if (d.one_in(2)) return d.between(4, 330);
  constexpr std::int64_t edges[] = {64, 128, 192, 256, 384};
  return edges[d.between(0, 4)] + d.between(-1, 1);
}

AttentionConfig draw_config(std::uint64_t seed) {
  Draw d(seed + 5000);
  AttentionConfig c{};
  c.dtype = d.one_in(2) ? DType::bf16 : DType::f16;
  c.placement = static_cast<AttentionConfig::Placement>(d.between(0, 2));
  c.deterministic = d.one_in(4);
  c.batch = d.between(1, 3);
  c.queries = draw_length(d);
  c.keys = d.one_in(3) ? c.queries : draw_length(d);
  c.key_heads = d.between(1, 2);
  c.group = d.one_in(2) ? 1 : d.between(2, 3);
  constexpr std::int64_t usual[] = {64, 96, 128};
  c.depth = d.one_in(2) ? usual[d.between(0, 2)] : d.one_in(2) ? 8 * d.between(1, 16) : d.between(1, 128);
  c.value_depth = d.one_in(6) ? d.between(1, 128) : c.depth;
  // A third of all without any option: most calls are such, and have kernels of their own.
  if (d.one_in(3)) {
    c.options.seed = seed;
    c.options.causal = d.one_in(2);
    c.with_lse = d.one_in(2);
    if (c.placement == AttentionConfig::Placement::packed) {
      c.keys = c.queries;
      c.value_depth = c.depth;
    }
    return c;
  }
  draw_attention_options(d, seed, c, 200, 150);
  return c;
}

/// Within twice the composed form's distance from f64, or within what nobody does better.
void expect_as_exact_as_composed(const AttentionConfig& c, std::uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.text());
  const AttentionOperands x = draw_attention_operands(c, seed);
  const AttentionValues expected = run_attention(c, x.to(DType::f64), Kernel::reference, card());
  const AttentionValues composed = run_attention(c, x, Kernel::reference, card());
  std::string used;
  const AttentionValues got = run_attention(c, x, Kernel::flash, card(), &used);
  EXPECT_EQ(used, "cuda_wgmma");
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double limit = std::max(2 * distance(composed[i], expected[i]), attention_error_floor(c, expected, i));
    EXPECT_LE(distance(got[i], expected[i]), limit) << kAttentionValueNames[i];
  }
}

TEST_F(FlashOnHopper, RandomConfigurationsAreAsExactAsTheComposedForm) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) expect_as_exact_as_composed(draw_config(seed), seed);
}

/// Heads of more than 128 columns, whose backward runs by other kernels.
TEST_F(FlashOnHopper, RandomConfigurationsOfWideHeadsAreAsExactAsTheComposedForm) {
  for (std::uint64_t seed = 2000; seed < 2100; ++seed) {
    AttentionConfig c = draw_config(seed);
    Draw d(seed);
    constexpr std::int64_t usual[] = {192, 256};
    c.depth = d.one_in(2) ? usual[d.between(0, 1)] : d.between(129, 256);
    c.value_depth = c.placement == AttentionConfig::Placement::packed ? c.depth
                    : c.depth <= 192 && d.one_in(2)                   ? 128
                                                                      : d.between(1, c.depth);
    expect_as_exact_as_composed(c, seed);
  }
}

/// Small ones, of every mode and width: what compute-sanitizer goes through (tools/check_kernels).
TEST_F(FlashOnHopper, ASampleForTheSanitizer) {
  constexpr std::int64_t depths[] = {64, 96, 128, 40, 192, 256};
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    Draw d(seed + 9000);
    AttentionConfig c{};
    c.dtype = seed % 2 == 0 ? DType::bf16 : DType::f16;
    c.placement = static_cast<AttentionConfig::Placement>(seed / 4 % 3);
    c.batch = 1;
    c.queries = d.between(120, 200);
    c.keys = d.between(120, 200);
    c.key_heads = 1;
    c.group = 1 + static_cast<std::int64_t>(seed) % 2;
    c.depth = c.value_depth = depths[seed % 6];
    c.options.seed = seed;
    c.options.causal = seed % 3 == 0;
    if (seed >= 8) draw_attention_options(d, seed, c, 100, 50);
    SCOPED_TRACE(c.text());
    const AttentionOperands x = draw_attention_operands(c, seed);
    std::string used;
    const AttentionValues got = run_attention(c, x, Kernel::flash, card(), &used);
    EXPECT_EQ(used, "cuda_wgmma");
    const AttentionValues expected = run_attention(c, x, Kernel::fused, card());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double limit = 10 * attention_error_floor(c, expected, i);
      EXPECT_LE(distance(got[i], expected[i]), limit) << kAttentionValueNames[i];
    }
  }
}

/// More tiles than blocks, and many calls in a row: what only goes wrong when warps of a block drift far apart. In each
/// case some warpgroup sees nothing of tiles that its neighbours read.
TEST_F(FlashOnHopper, LongQueuesOfManyTilesEnd) {
  struct Case {
    const char* name;
    std::int64_t batch, length, heads, depth, left;
    bool causal;
    std::vector<std::int32_t> starts;  // of sequences that lie one after another
  };
  const Case cases[] = {
      {"GPT-2: of its last 192 queries 64 exist", 32, 1024, 12, 64, -1, true, {}},
      {"tiles of 128 of which the last is half", 8, 1088, 12, 128, -1, true, {}},
      {"96 columns, all keys", 16, 448, 12, 96, -1, false, {}},
      {"256 columns, the last tile half", 4, 704, 12, 256, -1, true, {}},
      {"a window, so that tiles lie on both sides", 4, 2048, 12, 64, 200, true, {}},
      {"sequences of any length", 1, 6000, 12, 64, -1, true, {0, 1, 1, 700, 764, 764, 2500, 2501, 6000}},
  };
  constexpr int kCalls = 200;
  const NoGrad no_grad;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const HangWatch watch(c.name);
    Generator generator(1);
    Shape shape{c.batch, c.length, c.heads, c.depth};
    if (!c.starts.empty()) shape = {c.length, c.heads, c.depth};
    const auto draw = [&] { return randn(shape, {DType::bf16, card()}, &generator); };
    const Tensor q = draw(), k = draw(), v = draw();
    const Tensor starts = from_vector(c.starts).to(card());
    const auto attend = [&](Kernel kernel = Kernel::flash) {
      const AttentionOptions options{.causal = c.causal, .window_left = c.left, .kernel = kernel};
      if (c.starts.empty()) return scaled_dot_product_attention(q, k, v, options);
      return scaled_dot_product_attention_varlen(q, k, v, starts, starts, c.length, c.length, options);
    };
    const Tensor first = attend();
    EXPECT_EQ(last_kernel("attention"), "cuda_wgmma");
    Tensor last;
    for (int call = 0; call < kCalls; ++call) last = attend();
    EXPECT_TRUE(all(last == first).item<bool>());
    const Tensor other = attend(Kernel::fused).to(DType::f32);
    EXPECT_LE(norm(first.to(DType::f32) - other).item<float>(), 0.01F * norm(other).item<float>());
  }
}

TEST_F(FlashOnHopper, TenRepeatsGiveTheSameBits) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    AttentionConfig c = draw_config(seed + 600);
    c.queries = std::max<std::int64_t>(c.queries, 150);
    c.deterministic = seed % 2 == 0;
    if (c.placement == AttentionConfig::Placement::packed) c.keys = c.queries;
    if (c.mask != AttentionConfig::Mask::none) c.mask_shape = {c.mask_shape[0], c.mask_shape[1], c.queries, c.keys};
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.text());
    const AttentionOperands x = draw_attention_operands(c, seed);
    const AttentionValues first = run_attention(c, x, Kernel::flash, card());
    for (int repeat = 0; repeat < 10; ++repeat) {
      const AttentionValues again = run_attention(c, x, Kernel::flash, card());
      // out and lse; the gradients where that is asked for.
      for (std::size_t i = 0; i < (c.deterministic ? first.size() : 2); ++i) {
        ASSERT_EQ(again[i], first[i]) << kAttentionValueNames[i];
      }
    }
  }
}

}  // namespace
}  // namespace trinix::testing::attention_flash
