// RoPE and ALiBi: tables by their formulas, the relative-position property, limits, errors.
#include "support/compare.h"
#include "support/errors.h"
#include "support/on_device.h"

#include <cmath>
#include <gtest/gtest.h>

namespace trinix::nn {
namespace {

using trinix::testing::device_name;
using trinix::testing::message_of;
using trinix::testing::OnDevice;
using trinix::testing::test_devices;

using trinix::testing::largest_difference;

class PositionOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, PositionOnDevice, ::testing::ValuesIn(test_devices()), device_name);

/// What rotary embedding is for: q at i times k at j depends on i - j alone.
TEST_P(PositionOnDevice, ProductsDependOnTheDistance) {
  for (const RopeLayout layout : {RopeLayout::half, RopeLayout::interleaved}) {
    const RoPE rope({.dim = 16, .max_positions = 64, .layout = layout});
    const Tensor q = randn({1, 1, 2, 24}), k = randn({1, 1, 2, 24});
    const auto product = [&](std::int64_t i, std::int64_t j) {
      return sum(rope.forward(q, {.first = i}) * rope.forward(k, {.first = j}), {-1});
    };
    EXPECT_LT(largest_difference(product(9, 4), product(50, 45)), 2e-5);
    EXPECT_GT(largest_difference(product(9, 4), product(9, 5)), 1e-3);
  }
}

/// Turning in two parts, as generation does, is turning at once; so is naming the positions.
TEST_P(PositionOnDevice, OffsetsAndIdsContinueASequence) {
  const RoPE rope({.dim = 8, .max_positions = 40});
  const Tensor x = randn({2, 6, 3, 8});
  const Tensor whole = rope.forward(x);
  const Tensor parts = cat({rope.forward(x.narrow(1, 0, 4)), rope.forward(x.narrow(1, 4, 2), {.first = 4})}, 1);
  EXPECT_EQ(parts.to_doubles(), whole.to_doubles());
  EXPECT_EQ(rope.forward(x, {.ids = arange(6)}).to_doubles(), whole.to_doubles());
  const Tensor ids = from_vector<std::int64_t>({0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8}, {2, 6});
  const Tensor mixed = rope.forward(x, {.ids = ids});
  EXPECT_EQ(mixed.select(0, 1).to_doubles(), rope.forward(x.narrow(0, 1, 1), {.first = 3}).to_doubles());
}

TEST_P(PositionOnDevice, PackedFormTurnsAsTheSeparateOneDoes) {
  const RoPE rope({.dim = 8, .max_positions = 40, .layout = RopeLayout::interleaved});
  const Tensor q = randn({2, 5, 4, 10}), k = randn({2, 5, 2, 10}), v = randn({2, 5, 2, 10});
  const Tensor qkv = cat({q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3)}, -1);
  rope.apply_packed_(qkv, 4, 2, {.first = 3});
  const auto [rq, rk] = rope.rotate(q, k, {.first = 3});
  EXPECT_EQ(qkv.to_doubles(), cat({rq.flatten(2, 3), rk.flatten(2, 3), v.flatten(2, 3)}, -1).to_doubles());
}

TEST_P(PositionOnDevice, TablesStayInSinglePrecision) {
  RoPE rope({.dim = 8, .max_positions = 4096});
  rope.to(DType::bf16);
  const Tensor x = ones({1, 1, 1, 8}, {DType::bf16});
  const Tensor y = rope.forward(x, {.first = 4000});
  EXPECT_EQ(y.dtype(), DType::bf16);
  EXPECT_NEAR(y.to_doubles()[0], std::cos(4000.0) - std::sin(4000.0), 0.01);
  EXPECT_EQ(rope.tables(4096, device()).first.dtype(), DType::f32);
}

TEST(RoPETables, GrowOnDemandAndHoldTheAngles) {
  const RoPE rope({.dim = 6, .max_positions = 100, .base = 500});
  EXPECT_EQ(rope.tables(3).first.shape(), (Shape{3, 3}));
  EXPECT_EQ(rope.tables(4).first.shape(), (Shape{6, 3}));  // doubled
  EXPECT_EQ(rope.tables(60).first.shape(), (Shape{60, 3}));
  const auto [cos, sin] = rope.tables(61);
  EXPECT_EQ(cos.shape(), (Shape{100, 3}));
  for (const int p : {0, 1, 99}) {
    for (const int i : {0, 1, 2}) {
      const double angle = p * std::pow(500, -2.0 * i / 6);
      EXPECT_NEAR(cos[p][i].item<float>(), std::cos(angle), 1e-7);
      EXPECT_NEAR(sin[p][i].item<float>(), std::sin(angle), 1e-7);
    }
  }
}

TEST(RoPEScaled, LinearDividesEveryFrequency) {
  const RoPE plain({.dim = 8}), scaled({.dim = 8, .scaling = RoPEScaling::linear, .factor = 4});
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_DOUBLE_EQ(scaled.frequencies(1)[i], plain.frequencies(1)[i] / 4);
  }
}

TEST(RoPEScaled, DynamicNtkIsPlainUpToTheTrainedLength) {
  const RoPE plain({.dim = 8, .max_positions = 64});
  const RoPE scaled(
      {.dim = 8, .max_positions = 64, .scaling = RoPEScaling::dynamic_ntk, .factor = 2, .original_max_positions = 16});
  EXPECT_EQ(scaled.frequencies(16), plain.frequencies(16));
  EXPECT_DOUBLE_EQ(scaled.frequencies(64)[0], 1);
  // The slowest pair of dim 8 is slowed by the factor that the base grows by, to the power 6/8: 2 * 4 - 1.
  EXPECT_NEAR(scaled.frequencies(64)[3], plain.frequencies(64)[3] / 7, 1e-15);
  const Tensor x = ones({1, 20, 1, 8});
  EXPECT_LT(largest_difference(scaled.forward(x.narrow(1, 0, 16)), plain.forward(x.narrow(1, 0, 16))), 1e-7);
  EXPECT_GT(largest_difference(scaled.forward(x), plain.forward(x)), 1e-3);
  // The table of the longer sequence does not leak into a shorter one.
  EXPECT_LT(largest_difference(scaled.forward(x.narrow(1, 0, 16)), plain.forward(x.narrow(1, 0, 16))), 1e-7);
}

TEST(RoPEScaled, YarnAndLlama3KeepTheFastAndDivideTheSlow) {
  const RoPEOptions base{.dim = 64, .max_positions = 8192};
  RoPEOptions yarn = base, llama = base;
  yarn.scaling = RoPEScaling::yarn;
  llama.scaling = RoPEScaling::llama3;
  for (RoPEOptions* o : {&yarn, &llama}) {
    o->factor = 8;
    o->original_max_positions = 1024;
    const auto f = RoPE(*o).frequencies(1), plain = RoPE(base).frequencies(1);
    EXPECT_DOUBLE_EQ(f.front(), plain.front());
    EXPECT_DOUBLE_EQ(f.back(), plain.back() / 8);
    for (std::size_t i = 1; i < f.size(); ++i) EXPECT_GE(f[i - 1] / plain[i - 1], f[i] / plain[i]);
  }
  EXPECT_DOUBLE_EQ(RoPE(yarn).attention_factor(), 0.1 * std::log(8) + 1);
  EXPECT_NEAR(RoPE(yarn).tables(1).first[0][0].item<float>(), 0.1 * std::log(8) + 1, 1e-6);
  yarn.attention_factor = 1;
  EXPECT_EQ(RoPE(yarn).attention_factor(), 1);
}

TEST(RoPEErrors, AreTypedAndHoldTheNumbers) {
  const auto make = [](const RoPEOptions& o) { return [o] { const RoPE rope(o); }; };
  EXPECT_EQ(message_of<ConfigError>(make({.dim = 7})),
            "[RoPE] dim is 7; columns are turned in pairs, so it must be even and positive");
  EXPECT_EQ(message_of<ConfigError>(make({.dim = 8, .base = 1})), "[RoPE] base is 1; it must be above 1");
  EXPECT_EQ(message_of<ConfigError>(make({.dim = 8, .scaling = RoPEScaling::linear, .factor = 0.5})),
            "[RoPE] the factor of the scaling is 0.5; it must be at least 1");
  const RoPE rope({.dim = 8, .max_positions = 16});
  EXPECT_EQ(message_of<IndexError>([&] {
              static_cast<void>(rope.forward(ones({1, 5, 1, 8}), {.first = 12}));
            }),
            "[RoPE] 17 positions are needed, but max_positions is 16");
  EXPECT_EQ(message_of<IndexError>([&] {
              static_cast<void>(rope.forward(ones({1, 1, 1, 8}), {.ids = from_vector<std::int64_t>({16})}));
            }),
            "[rope] index 16 at position 0 is out of range for 16 positions");
  EXPECT_EQ(message_of<ShapeError>([&] {
              static_cast<void>(rope.forward(ones({1, 2, 3, 6})));
            }),
            "[rope] tables of shape [16, 4] rotate 8 columns, but a head has 6 (x of shape [1, 2, 3, 6])");
}

TEST(AlibiSlopes, FollowThePapersRule) {
  EXPECT_EQ(alibi_slopes(8).to_doubles(),
            (std::vector<double>{0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625}));
  const std::vector<double> six = alibi_slopes(6).to_doubles();  // those of 4, and two of 8
  const std::vector<double> expected = {0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125};
  EXPECT_EQ(six, expected);
  EXPECT_EQ(alibi_slopes(1).to_doubles(), std::vector<double>{0.00390625});
  EXPECT_EQ(message_of<ConfigError>([] { static_cast<void>(alibi_slopes(0)); }),
            "[alibi_slopes] the number of heads is 0; it must be positive");
}

TEST_P(PositionOnDevice, AlibiBiasFallsWithTheDistance) {
  const ALiBi alibi(2);
  EXPECT_EQ(alibi.slopes(device()).device(), device());
  const Tensor bias = alibi.bias(2, 3, {.device = device()});
  EXPECT_EQ(bias.shape(), (Shape{2, 2, 3}));
  // Slopes 1/16 and 1/256; the last query stands at the last key.
  const std::vector<double> distance = {1, 0, 1, 2, 1, 0};
  const std::vector<double> got = bias.to_doubles();
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(got[i], -distance[i] / 16);
    EXPECT_EQ(got[6 + i], -distance[i] / 256);
  }
}

}  // namespace
}  // namespace trinix::nn
