#include "support/errors.h"

#include <gtest/gtest.h>

#include <trinix/core/dtype.h>
#include <trinix/core/error.h>
#include <trinix/core/scalar.h>

namespace trinix {
namespace {

using testing::message_of;

constexpr DType kAll[] = {DType::boolean, DType::u8,   DType::i32, DType::i64,
                          DType::f16,     DType::bf16, DType::f32, DType::f64};

TEST(Dtype, NamesAndSizes) {
  const char* names[] = {"bool", "u8", "i32", "i64", "f16", "bf16", "f32", "f64"};
  const std::size_t sizes[] = {1, 1, 4, 8, 2, 2, 4, 8};
  for (int i = 0; i < kDTypes; ++i) {
    EXPECT_EQ(name(kAll[i]), names[i]);
    EXPECT_EQ(parse_dtype(names[i]), kAll[i]);
    EXPECT_EQ(size_of(kAll[i]), sizes[i]);
    EXPECT_EQ(is_floating(kAll[i]), i >= 4);
    EXPECT_EQ(is_integral(kAll[i]), i >= 1 && i <= 3);
  }
  for (const char* wrong : {"", "F32", "float", "f32 ", "i8"})
    EXPECT_THROW(static_cast<void>(parse_dtype(wrong)), DtypeError) << wrong;
  EXPECT_EQ(message_of<DtypeError>([] { static_cast<void>(parse_dtype("float")); }),
            "[dtype] unknown dtype 'float': one of bool, u8, i32, i64, f16, bf16, f32, f64");
}

TEST(Dtype, PromotionTable) {
  using enum DType;
  // Row and column in the order of kAll.
  constexpr DType table[8][8] = {
      {boolean, u8, i32, i64, f16, bf16, f32, f64}, {u8, u8, i32, i64, f16, bf16, f32, f64},
      {i32, i32, i32, i64, f16, bf16, f32, f64},    {i64, i64, i64, i64, f16, bf16, f32, f64},
      {f16, f16, f16, f16, f16, f32, f32, f64},     {bf16, bf16, bf16, bf16, f32, bf16, f32, f64},
      {f32, f32, f32, f32, f32, f32, f32, f64},     {f64, f64, f64, f64, f64, f64, f64, f64},
  };
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j) {
      EXPECT_EQ(promote(kAll[i], kAll[j]), table[i][j]) << name(kAll[i]) << " " << name(kAll[j]);
    }
  }
}

TEST(Dtype, AScalarNeverWidensWithinItsCategory) {
  for (const DType t : kAll) {
    EXPECT_EQ(promote(t, Scalar(true)), t);
    EXPECT_EQ(promote(t, Scalar(2)), t == DType::boolean ? DType::i64 : t);
    EXPECT_EQ(promote(t, Scalar(2.5)), is_floating(t) ? t : DType::f32);
    EXPECT_EQ(promote(t, Scalar(2.5F)), is_floating(t) ? t : DType::f32);
  }
}

TEST(Dtype, SumsOfSixteenBitFloatsAreComputedInF32) {
  for (const DType t : kAll) {
    EXPECT_EQ(compute_type(t), t == DType::f16 || t == DType::bf16 ? DType::f32 : t);
  }
  static_assert(std::is_same_v<compute_t<float16>, float> && std::is_same_v<compute_t<bfloat16>, float>);
  static_assert(std::is_same_v<compute_t<double>, double> && std::is_same_v<compute_t<std::int64_t>, std::int64_t>);
}

TEST(Scalar, RemembersWhatItHolds) {
  EXPECT_EQ(Scalar(true).kind(), DType::boolean);
  EXPECT_EQ(Scalar(3).kind(), DType::i64);
  EXPECT_EQ(Scalar(3U).kind(), DType::i64);
  EXPECT_EQ(Scalar(3.0F).kind(), DType::f64);
  // Beyond 2^53, where a double would lose the last digit.
  EXPECT_EQ(Scalar(9007199254740993).to<std::int64_t>(), 9007199254740993);
  EXPECT_EQ(Scalar(-2.75).to_int(), -2);
  EXPECT_EQ(Scalar(7).to_double(), 7.0);
  EXPECT_TRUE(Scalar(0.5).to<bool>());
  EXPECT_FALSE(Scalar(0).to<bool>());
  EXPECT_EQ(static_cast<float>(Scalar(1.5).to<float16>()), 1.5F);
  EXPECT_EQ(static_cast<float>(Scalar(1.5).to<bfloat16>()), 1.5F);
}

}  // namespace
}  // namespace trinix
