#include "naive.h"

#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <set>

#include <trinix/core/philox.h>
#include <trinix/core/random_math.h>
#include <trinix/core/threads.h>

namespace trinix::testing {
namespace {

std::uint32_t bits_at(const RandomState& state, std::int64_t i) {
  return philox(state.seed, state.offset + static_cast<std::uint64_t>(i / 4)).x[i % 4];
}

TEST(Philox, KnownAnswers) {
  // Published with Random123 (kat_vectors, philox4x32 10): counter and key all zeros, all ones, and digits of pi.
  const auto expect = [](const PhiloxBlock& b, std::uint32_t x0, std::uint32_t x1, std::uint32_t x2, std::uint32_t x3) {
    EXPECT_EQ(b.x[0], x0);
    EXPECT_EQ(b.x[1], x1);
    EXPECT_EQ(b.x[2], x2);
    EXPECT_EQ(b.x[3], x3);
  };
  expect(philox(0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  expect(philox(~0ULL, ~0ULL, ~0ULL), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  expect(philox(0x299f31d0a4093822ULL, 0x85a308d3243f6a88ULL, 0x0370734413198a2eULL), 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1);
}

TEST(RandomMath, LogarithmMatchesTheLibrarys) {
  double worst = 0;
  for (std::uint32_t i = 0; i < 100000; ++i) {
    const float u = detail::fused(static_cast<float>(i * 42949U + 1U), 0x1p-32F, 0x1p-33F);
    const double exact = std::log(static_cast<double>(u));
    worst = std::max(worst, std::abs(detail::log_positive(u) - exact) / std::abs(exact));
  }
  EXPECT_LT(worst, 2e-7);
  EXPECT_EQ(detail::log_positive(1.0F), 0.0F);
}

TEST(RandomMath, SineAndCosineOfATurn) {
  double worst = 0;
  for (std::uint32_t i = 0; i < 100000; ++i) {
    const std::uint32_t bits = i * 42949U + 3U;
    const double angle = 2 * M_PI * static_cast<double>(bits) / 4294967296.0;
    const SinCos s = sincos_of_turn(bits);
    worst = std::max({worst, std::abs(s.sin - std::sin(angle)), std::abs(s.cos - std::cos(angle))});
  }
  EXPECT_LT(worst, 1.5e-7);
  EXPECT_EQ(sincos_of_turn(0).cos, 1.0F);
  EXPECT_EQ(sincos_of_turn(0x40000000U).sin, 1.0F);
  EXPECT_EQ(sincos_of_turn(0x80000000U).cos, -1.0F);
  EXPECT_EQ(sincos_of_turn(0xc0000000U).sin, -1.0F);
}

TEST(RandomMath, TheLargestNormalIsFinite) {
  EXPECT_NEAR(normal_from_bits(0, 0).first, std::sqrt(66 * std::log(2.0)), 1e-5);
  EXPECT_EQ(normal_from_bits(0xffffffffU, 0).first, 0.0F);  // the smallest radius
}

TEST(RandomMath, WideMultiplication) {
  EXPECT_EQ(integer_from_bits(~0ULL, 7), 6U);
  EXPECT_EQ(integer_from_bits(0, 7), 0U);
  EXPECT_EQ(integer_from_bits(1ULL << 63, 10), 5U);
  EXPECT_EQ(integer_from_bits(~0ULL, ~0ULL), ~0ULL - 1);
  EXPECT_EQ(integer_from_bits(0x123456789abcdef0ULL, 0xfedcba9876543210ULL), 0x121fa00ad77d7422ULL);
}

class RandomOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, RandomOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(RandomOnDevice, UniformFollowsTheRule) {
  Generator generator(99);
  generator.reserve(7);  // an odd beginning
  const RandomState state = generator.state();
  const Tensor x = rand({3, 1001}, {}, &generator);
  const auto values = x.to_vector<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(values[i], uniform_from_bits(bits_at(state, static_cast<std::int64_t>(i)))) << i;
  }
  EXPECT_EQ(generator.state().offset, state.offset + (3 * 1001 + 3) / 4);
  note_kernels_run();
}

TEST_P(RandomOnDevice, NormalFollowsTheRule) {
  Generator generator(5);
  const auto values = randn({5003}, {}, &generator).to_vector<float>();
  for (std::int64_t k = 0; k < 5003 / 2; ++k) {
    const NormalPair z = normal_from_bits(bits_at({5, 0}, 2 * k), bits_at({5, 0}, 2 * k + 1));
    ASSERT_EQ(values[static_cast<std::size_t>(2 * k)], z.first);
    ASSERT_EQ(values[static_cast<std::size_t>(2 * k + 1)], z.second);
  }
  EXPECT_EQ(values[5002], normal_from_bits(bits_at({5, 0}, 5002), bits_at({5, 0}, 5003)).first);
}

TEST_P(RandomOnDevice, UniformMoments) {
  const int n = 1 << 20;
  const auto v = rand({n}).to_doubles();
  double sum = 0, square = 0;
  for (const double x : v) {
    ASSERT_TRUE(x >= 0 && x < 1);
    sum += x;
    square += x * x;
  }
  // Within five standard errors.
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(square / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
}

TEST_P(RandomOnDevice, NormalMomentsAndTails) {
  const int n = 1 << 20;
  Generator generator(1234);
  const auto v = randn({n}, {}, &generator).to_doubles();
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
  int beyond2 = 0, beyond4 = 0, negative = 0;
  for (const double x : v) {
    m1 += x;
    m2 += x * x;
    m3 += x * x * x;
    m4 += x * x * x * x;
    beyond2 += std::abs(x) > 2 ? 1 : 0;
    beyond4 += std::abs(x) > 4 ? 1 : 0;
    negative += x < 0 ? 1 : 0;
  }
  EXPECT_NEAR(m1 / n, 0, 5 * std::sqrt(1.0 / n));
  EXPECT_NEAR(m2 / n, 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(m3 / n, 0, 5 * std::sqrt(15.0 / n));
  EXPECT_NEAR(m4 / n, 3, 5 * std::sqrt(96.0 / n));
  EXPECT_NEAR(negative, n / 2.0, 5 * std::sqrt(n / 4.0));
  const double p2 = std::erfc(2 / std::sqrt(2.0)), p4 = std::erfc(4 / std::sqrt(2.0));
  EXPECT_NEAR(beyond2, n * p2, 5 * std::sqrt(n * p2));
  EXPECT_NEAR(beyond4, n * p4, 5 * std::sqrt(n * p4));
  // Neighbours come from one pair and must not be correlated.
  double product = 0;
  for (int i = 0; i + 1 < n; i += 2) product += v[static_cast<std::size_t>(i)] * v[static_cast<std::size_t>(i + 1)];
  EXPECT_NEAR(product / (n / 2), 0, 5 * std::sqrt(2.0 / n));
}

TEST_P(RandomOnDevice, EveryDtypeHoldsTheSameValuesUpToRounding) {
  for (const DType dtype : {DType::f64, DType::bf16, DType::f16}) {
    Generator a(3), b(3);
    const Tensor wide = randn({257}, {}, &a);
    const Tensor other = randn({257}, {dtype}, &b);
    EXPECT_EQ(other.to_doubles(), wide.to(dtype).to_doubles()) << name(dtype);
  }
}

TEST_P(RandomOnDevice, SixteenBitUniformNeverReachesOne) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const double v : rand({1 << 16}, {dtype}).to_doubles()) ASSERT_LT(v, 1.0);
    const Tensor narrow = empty({1 << 14}, {dtype});
    uniform_(narrow, 1000, 1001);  // coarser than the dtype resolves
    for (const double v : narrow.to_doubles()) ASSERT_TRUE(v >= 1000 && v < 1001) << v;
  }
}

TEST_P(RandomOnDevice, StridesDoNotChangeTheValues) {
  Generator a(8), b(8), c(8);
  const Tensor dense = randn({70, 50}, {}, &a);
  const Tensor transposed = empty({50, 70}).transpose(0, 1);
  normal_(transposed, 0, 1, &b);
  EXPECT_EQ(transposed.to_vector<float>(), dense.to_vector<float>());
  const Tensor sliced = empty({70, 101}).slice(1, 1, 101, 2);
  normal_(sliced, 0, 1, &c);
  EXPECT_EQ(sliced.to_vector<float>(), dense.to_vector<float>());
}

TEST(Random, ThreadsDoNotChangeTheValues) {
  set_num_threads(1);
  Generator a(8), b(8);
  const auto one = randn({100003}, {}, &a).to_vector<float>();
  set_num_threads(2);
  EXPECT_EQ(randn({100003}, {}, &b).to_vector<float>(), one);
  set_num_threads(0);
}

TEST_P(RandomOnDevice, CallsDoNotOverlapAndStateCanBeRestored) {
  Generator generator(21);
  const Tensor first = rand({5}, {}, &generator);
  const RandomState saved = generator.state();
  const auto second = rand({6}, {}, &generator).to_vector<float>();
  const std::vector<float> before = first.to_vector<float>();
  const std::set<float> seen(before.begin(), before.end());
  for (const float v : second) EXPECT_FALSE(seen.contains(v));
  generator.set_state(saved);
  EXPECT_EQ(rand({6}, {}, &generator).to_vector<float>(), second);
}

TEST_P(RandomOnDevice, DefaultGeneratorIsSeeded) {
  manual_seed(17);
  const auto a = rand({9}).to_vector<float>();
  manual_seed(17);
  EXPECT_EQ(rand({9}).to_vector<float>(), a);
}

TEST_P(RandomOnDevice, IntegersCoverTheRangeEvenly) {
  for (const DType dtype : {DType::i64, DType::i32, DType::u8}) {
    const int n = 70000;
    std::vector<int> counts(7, 0);
    for (const double v : randint(3, 10, {n}, {dtype}).to_doubles()) {
      ASSERT_TRUE(v >= 3 && v < 10);
      ++counts[static_cast<std::size_t>(v - 3)];
    }
    for (const int c : counts) EXPECT_NEAR(c, n / 7.0, 5 * std::sqrt(n / 7.0));
  }
  const auto wide = randint(INT64_MIN, INT64_MAX, {1000}).to_vector<std::int64_t>();
  EXPECT_TRUE(std::any_of(wide.begin(), wide.end(), [](std::int64_t v) { return v < INT64_MIN / 2; }));
  EXPECT_TRUE(std::any_of(wide.begin(), wide.end(), [](std::int64_t v) { return v > INT64_MAX / 2; }));
  for (const std::int64_t v : randint(-1, 0, {10}).to_vector<std::int64_t>()) EXPECT_EQ(v, -1);
}

TEST(Random, PermutationHoldsEveryNumberOnce) {
  Generator a(4), b(4);
  auto order = randperm(1000, &a).to_vector<std::int64_t>();
  EXPECT_EQ(order, randperm(1000, &b).to_vector<std::int64_t>());
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  std::vector<std::int64_t> expected(1000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
  EXPECT_EQ(randperm(0).numel(), 0);
  EXPECT_EQ(randperm(1).to_vector<std::int64_t>(), std::vector<std::int64_t>{0});
}

TEST(Random, PermutationsOfThreeAreEquallyLikely) {
  Generator generator(6);
  std::vector<int> counts(6, 0);
  const int n = 6000;
  for (int i = 0; i < n; ++i) {
    const auto p = randperm(3, &generator).to_vector<std::int64_t>();
    ++counts[static_cast<std::size_t>(p[0] * 2 + (p[1] > p[2] ? 1 : 0))];
  }
  for (const int c : counts) EXPECT_NEAR(c, n / 6.0, 5 * std::sqrt(n / 6.0));
}

TEST_P(RandomOnDevice, InPlaceScalesAndShifts) {
  Generator a(2), b(2);
  const Tensor z = randn({999}, {DType::f64}, &a);
  const Tensor x = empty({999}, {DType::f64});
  normal_(x, 3, 0.5, &b);
  const auto drawn = z.to_vector<double>();
  const auto placed = x.to_vector<double>();
  for (std::int64_t i = 0; i < 999; ++i) {
    EXPECT_DOUBLE_EQ(placed[static_cast<std::size_t>(i)], 3 + 0.5 * drawn[static_cast<std::size_t>(i)]);
  }
  uniform_(x, -2, -1);
  for (const double v : x.to_vector<double>()) ASSERT_TRUE(v >= -2 && v < -1);
}

TEST_P(RandomOnDevice, LikeAndOptions) {
  const Tensor model = zeros({2, 3}, {DType::f64});
  EXPECT_EQ(rand_like(model).dtype(), DType::f64);
  EXPECT_EQ(randn_like(model).shape(), Shape({2, 3}));
  EXPECT_TRUE(randn({2}, {.requires_grad = true}).requires_grad());
  EXPECT_EQ(randn({0, 3}).numel(), 0);
}

TEST(Random, Errors) {
  EXPECT_EQ(message_of<ConfigError>([] { static_cast<void>(randint(5, 5, {2})); }),
            "[randint] the range from 5 to 5 (excluded) is empty");
  EXPECT_EQ(message_of<ConfigError>([] { static_cast<void>(randint(0, 257, {2}, {DType::u8})); }),
            "[randint] the range from 0 to 257 does not fit in u8");
  EXPECT_EQ(message_of<DtypeError>([] { static_cast<void>(randint(0, 2, {2}, {DType::f32})); }),
            "[randint] makes integers, got f32; ask for i64, i32 or u8, and convert with to()");
  EXPECT_EQ(message_of<DtypeError>([] { static_cast<void>(rand({2}, {DType::i64})); }),
            "[rand] takes floating-point tensors, got i64 of shape [2]; convert it with to()");
  EXPECT_EQ(message_of<ConfigError>([] { normal_(zeros({1}), 0, -1); }),
            "[normal_] mean 0 and standard deviation -1 make no distribution");
  EXPECT_EQ(message_of<ConfigError>([] { uniform_(zeros({1}), 2, 1); }), "[uniform_] the range from 2 to 1 is empty");
  EXPECT_EQ(message_of<ConfigError>([] { static_cast<void>(randperm(-1)); }), "[randperm] -1 elements were asked for");
  const Tensor leaf = zeros({2}, {.requires_grad = true});
  EXPECT_THROW(normal_(leaf), AutogradError);
  {
    const NoGrad no_grad;
    EXPECT_NO_THROW(normal_(leaf));
  }
}

TEST_P(RandomOnDevice, OverwritingEndsTheGradient) {
  Tensor x = ones({3}, {.requires_grad = true});
  const Tensor y = x * 2.0;
  uniform_(y);
  sum(y).backward();
  EXPECT_FALSE(x.grad().defined());
}

}  // namespace
}  // namespace trinix::testing
