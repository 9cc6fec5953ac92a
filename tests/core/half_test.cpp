// The 16-bit floating-point types, over all of their values and against a slow reference.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <vector>

#include <trinix/core/half.h>
#include <trinix/core/tensor.h>

namespace trinix {
namespace {

struct Layout {
  int exponent_bits;
  int mantissa_bits;
};
constexpr Layout kHalf = {5, 10};
constexpr Layout kBrain = {8, 7};

/// The value of a bit pattern by the definition of IEEE 754, in double, which holds all of them.
double decode(std::uint16_t bits, Layout layout) {
  const int bias = (1 << (layout.exponent_bits - 1)) - 1;
  const int exponent = bits >> layout.mantissa_bits & ((1 << layout.exponent_bits) - 1);
  const int mantissa = bits & ((1 << layout.mantissa_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << layout.exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * INFINITY;
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - layout.mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << layout.mantissa_bits), exponent - bias - layout.mantissa_bits);
}

template <class T>
class SixteenBits : public ::testing::Test {
 public:
  static constexpr Layout kLayout = std::is_same_v<T, float16> ? kHalf : kBrain;
  static constexpr std::uint16_t kInfinity =
      static_cast<std::uint16_t>(((1 << kLayout.exponent_bits) - 1) << kLayout.mantissa_bits);

  /// Nearest value, ties to the even pattern, by search among all finite ones.
  static std::uint16_t encode(float value) {
    if (std::isnan(value)) return kInfinity | 1;
    static const std::vector<double> table = [] {
      std::vector<double> values;
      for (std::uint16_t bits = 0; bits < kInfinity; ++bits) values.push_back(decode(bits, kLayout));
      // What infinity stands for when rounding: the next value that the format would have.
      values.push_back(std::ldexp(1.0, 1 << (kLayout.exponent_bits - 1)));
      return values;
    }();
    const double size = std::fabs(static_cast<double>(value));
    auto above = static_cast<std::size_t>(std::lower_bound(table.begin(), table.end(), size) - table.begin());
    above = std::min(above, table.size() - 1);
    std::size_t best = above;
    if (above > 0) {
      const double up = table[above] - size;
      const double down = size - table[above - 1];
      if (down < up || (down == up && (above - 1) % 2 == 0)) best = above - 1;
    }
    return static_cast<std::uint16_t>(best | (std::signbit(value) ? 0x8000 : 0));
  }
};

using Types = ::testing::Types<float16, bfloat16>;
TYPED_TEST_SUITE(SixteenBits, Types);

TYPED_TEST(SixteenBits, EveryPatternHasItsValueAndComesBack) {
  for (int i = 0; i <= 0xffff; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const float value = TypeParam::from_bits(bits);
    const double expected = decode(bits, TestFixture::kLayout);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(TypeParam(value)))) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(value), expected) << bits;
      ASSERT_EQ(std::signbit(value), std::signbit(expected)) << bits;
      ASSERT_EQ(TypeParam(value).bits, bits);
    }
  }
}

TYPED_TEST(SixteenBits, TiesGoToEvenAndTheirNeighboursToTheNearer) {
  for (std::uint16_t bits = 0; bits < TestFixture::kInfinity; ++bits) {
    const auto next = static_cast<std::uint16_t>(bits + 1);
    const double below = decode(bits, TestFixture::kLayout);
    const double above = next == TestFixture::kInfinity ? std::ldexp(1.0, 1 << (TestFixture::kLayout.exponent_bits - 1))
                                                        : decode(next, TestFixture::kLayout);
    const auto middle = static_cast<float>((below + above) / 2);
    ASSERT_EQ(static_cast<double>(middle), (below + above) / 2) << bits;
    const std::uint16_t even = bits % 2 == 0 ? bits : next;
    ASSERT_EQ(TypeParam(middle).bits, even) << bits;
    ASSERT_EQ(TypeParam(-middle).bits, even | 0x8000) << bits;
    ASSERT_EQ(TypeParam(std::nextafter(middle, 0.0F)).bits, bits);
    ASSERT_EQ(TypeParam(std::nextafter(middle, INFINITY)).bits, next);
  }
}

TYPED_TEST(SixteenBits, RoundsAsTheSlowReference) {
  std::mt19937 random(1);
  for (int i = 0; i < 300000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(static_cast<float>(TypeParam(value))));
    } else {
      ASSERT_EQ(TypeParam(value).bits, TestFixture::encode(value)) << value;
    }
  }
}

TYPED_TEST(SixteenBits, ExtremesAndNan) {
  EXPECT_EQ(TypeParam(INFINITY).bits, TestFixture::kInfinity);
  EXPECT_EQ(TypeParam(-INFINITY).bits, TestFixture::kInfinity | 0x8000);
  EXPECT_EQ(TypeParam(0.0F).bits, 0);
  EXPECT_EQ(TypeParam(-0.0F).bits, 0x8000);
  EXPECT_EQ(TypeParam(std::numeric_limits<float>::max()).bits, TestFixture::kInfinity);
  // Every NaN of float stays one: also those whose payload lies only in the bits that are cut off.
  for (const std::uint32_t bits : {0x7fc00000U, 0x7f800001U, 0x7f80ffffU, 0x7fffffffU, 0xffffffffU, 0xff800001U}) {
    EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(std::bit_cast<float>(bits))))) << bits;
  }
}

TYPED_TEST(SixteenBits, WholeTensorsConvertLikeSingleValues) {
  // The vectorised loops of the copy kernel, forth and back, over every pattern.
  const Tensor all = empty({65536}, {dtype_of<TypeParam>});
  for (int i = 0; i < 65536; ++i) all.data<TypeParam>()[i] = TypeParam::from_bits(static_cast<std::uint16_t>(i));
  const std::vector<float> wide = all.to(DType::f32).template to_vector<float>();
  const std::vector<TypeParam> back = all.to(DType::f32).to(dtype_of<TypeParam>).template to_vector<TypeParam>();
  for (std::size_t i = 0; i < 65536; ++i) {
    const float expected = TypeParam::from_bits(static_cast<std::uint16_t>(i));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(wide[i]) && std::isnan(static_cast<float>(back[i]))) << i;
    } else {
      ASSERT_EQ(wide[i], expected);
      ASSERT_EQ(back[i].bits, i);
    }
  }
}

TEST(Half, LargestFinite) {
  EXPECT_EQ(float16(65504.0F).bits, 0x7bff);
  EXPECT_EQ(float16(65519.996F).bits, 0x7bff);
  EXPECT_EQ(float16(65520.0F).bits, 0x7c00);
  EXPECT_EQ(float16(0x1p-24F).bits, 1);
  EXPECT_EQ(float16(0x1p-25F).bits, 0);
  EXPECT_EQ(float16(std::nextafter(0x1p-25F, 1.0F)).bits, 1);
}

}  // namespace
}  // namespace trinix
