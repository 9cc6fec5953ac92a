// What moves and converts values: clone, contiguous, to, copy_, item, to_vector.
#include "naive.h"
#include "support/errors.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/core/error.h>

namespace trinix {
namespace {

using testing::at;
using testing::counting;
using ::testing::ElementsAre;
using testing::for_each_index;
using testing::Index;
using testing::message_of;

/// Calls f.operator()<T>() for every element type.
template <class F>
void for_each_type(F&& f) {
  f.template operator()<bool>();
  f.template operator()<std::uint8_t>();
  f.template operator()<std::int32_t>();
  f.template operator()<std::int64_t>();
  f.template operator()<float16>();
  f.template operator()<bfloat16>();
  f.template operator()<float>();
  f.template operator()<double>();
}

template <class To, class From>
To converted(From v) {
  if constexpr (std::is_same_v<To, bool>) {
    return static_cast<double>(v) != 0;
  } else if constexpr (std::is_same_v<To, float16> || std::is_same_v<To, bfloat16>) {
    return To(static_cast<float>(v));
  } else {
    return static_cast<To>(v);
  }
}

TEST(Conversion, EveryDtypeToEveryOther) {
  const std::vector<double> values = {0, 1, 2, 0.5, 1.75, 100, 120.25, 127, 3.999};
  for_each_type([&]<class From>() {
    for_each_type([&]<class To>() {
      SCOPED_TRACE(std::string(name(dtype_of<From>)) + " to " + std::string(name(dtype_of<To>)));
      // Long enough for the vectorised loop and its tail, and once strided.
      const Tensor from = empty({1001}, {dtype_of<From>});
      for (int i = 0; i < 1001; ++i) {
        from.data<From>()[i] = converted<From>(values[static_cast<std::size_t>(i) % values.size()]);
      }
      const Tensor to = from.to(dtype_of<To>);
      ASSERT_EQ(to.dtype(), dtype_of<To>);
      const Tensor some = from.slice(0, 1, 1001, 3).to(dtype_of<To>).contiguous();
      for (int i = 0; i < 1001; ++i) {
        const To expected = converted<To>(from.data<From>()[i]);
        ASSERT_EQ(to.data<To>()[i], expected) << i;
        if (i % 3 == 1) {
          ASSERT_EQ(some.data<To>()[i / 3], expected) << i;
        }
      }
    });
  });
}

TEST(Conversion, SignsAndExtremes) {
  EXPECT_THAT(from_vector<float>({-1.9F, -0.5F, 1.9F}).to(DType::i64).to_vector<std::int64_t>(), ElementsAre(-1, 0, 1));
  EXPECT_THAT(from_vector<std::int32_t>({-5, 0}).to(DType::boolean).to_doubles(), ElementsAre(1, 0));
  EXPECT_THAT(from_vector<float>({-0.0F, NAN, 1e-30F}).to(DType::boolean).to_doubles(), ElementsAre(0, 1, 1));
  EXPECT_EQ(from_vector<double>({1e300}).to(DType::f32).item<float>(), INFINITY);
  EXPECT_EQ(from_vector<float>({70000}).to(DType::f16).item<float>(), INFINITY);
  // i64 to f64 and back is exact up to 2^53; i64 to i64 always.
  const std::int64_t odd = (std::int64_t{1} << 53) + 1;
  EXPECT_EQ(from_vector<std::int64_t>({odd}).clone().item<std::int64_t>(), odd);
}

TEST(Conversion, ToTheSameDtypeOrDeviceIsTheSameTensor) {
  const Tensor t = arange(3);
  EXPECT_TRUE(t.to(DType::i64).same(t));
  EXPECT_TRUE(t.to(Device::cpu()).same(t));
  EXPECT_TRUE(t.contiguous().same(t));
  EXPECT_FALSE(t.clone().same(t));
  EXPECT_NE(t.clone().storage(), t.storage());
}

class Copies : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Layouts, Copies, ::testing::Range(0, testing::kLayouts),
                         [](const auto& info) { return "layout" + std::to_string(info.param); });

TEST_P(Copies, CloneIsRowMajorAndItsOwn) {
  for (const Shape& shape : {Shape(), Shape({1}), Shape({5}), Shape({0, 3}), Shape({3, 4}), Shape({2, 3, 4, 5}),
                             Shape({67, 129}), Shape({300, 200})}) {
    SCOPED_TRACE(shape.to_string());
    const Tensor t = counting(shape, GetParam());
    const Tensor c = t.clone();
    EXPECT_TRUE(c.is_contiguous());
    EXPECT_EQ(c.shape(), shape);
    std::int64_t value = 0;
    for_each_index(shape, [&](const Index& i) { ASSERT_EQ(at<std::int64_t>(c, i), value++); });
    EXPECT_EQ(t.to_doubles(), c.to_doubles());
    if (value > 0) {
      c.data<std::int64_t>()[0] = -7;
      EXPECT_EQ(t.to_vector<std::int64_t>()[0], 0);
    }
  }
}

TEST_P(Copies, CopyConvertsAndKeepsTheTargetsLayout) {
  const Shape shape = {5, 6, 7};
  for (int source_layout = 0; source_layout < testing::kLayouts; ++source_layout) {
    const Tensor target = counting(shape, GetParam());
    const Strides strides = target.strides();
    const Tensor source = counting(shape, source_layout).to(DType::f32);
    static_cast<void>(target.copy_(source.transpose(0, 1).clone().transpose(0, 1)));
    EXPECT_EQ(target.strides(), strides);
    std::int64_t value = 0;
    for_each_index(shape, [&](const Index& i) { ASSERT_EQ(at<std::int64_t>(target, i), value++); });
  }
}

TEST_P(Copies, CopyBroadcastsItsSource) {
  const Tensor target = counting({2, 3, 4}, GetParam());
  static_cast<void>(target.copy_(arange(3).reshape({3, 1})));
  for_each_index({2, 3, 4}, [&](const Index& i) { ASSERT_EQ(at<std::int64_t>(target, i), i[1]); });
  static_cast<void>(target.copy_(full({}, 2.5)));
  for_each_index({2, 3, 4}, [&](const Index& i) { ASSERT_EQ(at<std::int64_t>(target, i), 2); });
}

TEST_P(Copies, CopyTouchesOnlyItsTarget) {
  const Tensor base = counting({6, 6}, GetParam());
  static_cast<void>(base.slice(0, 1, 6, 2).slice(1, 0, 6, 3).copy_(full({3, 2}, -1, {DType::i64})));
  std::int64_t value = 0;
  for_each_index({6, 6}, [&](const Index& i) {
    const bool written = i[0] % 2 == 1 && i[1] % 3 == 0;
    ASSERT_EQ(at<std::int64_t>(base, i), written ? -1 : value);
    ++value;
  });
}

TEST(CopyInPlace, CountsTheWrite) {
  const Tensor t = zeros({2});
  const auto before = t.storage()->version();
  static_cast<void>(t.copy_(ones({2})));
  EXPECT_EQ(t.storage()->version(), before + 1);
  EXPECT_STREQ(t.storage()->last_writer(), "copy_");
}

TEST(CopyInPlace, OverlappingSourceIsReadBeforeItIsWritten) {
  const Tensor square = arange(40 * 40).reshape({40, 40});
  static_cast<void>(square.copy_(square.transpose(0, 1)));
  for (std::int64_t i = 0; i < 40; ++i) {
    for (std::int64_t j = 0; j < 40; ++j) ASSERT_EQ(at<std::int64_t>(square, {i, j}), j * 40 + i);
  }
  const Tensor row = arange(10);
  static_cast<void>(row.narrow(0, 1, 9).copy_(row.narrow(0, 0, 9)));
  EXPECT_THAT(row.to_vector<std::int64_t>(), ElementsAre(0, 0, 1, 2, 3, 4, 5, 6, 7, 8));
  static_cast<void>(row.copy_(row));
  EXPECT_THAT(row.to_vector<std::int64_t>(), ElementsAre(0, 0, 1, 2, 3, 4, 5, 6, 7, 8));
  static_cast<void>(row.slice(0, 0, 10, 2).copy_(row.slice(0, 1, 10, 2)));
  EXPECT_THAT(row.to_vector<std::int64_t>(), ElementsAre(0, 0, 2, 2, 4, 4, 6, 6, 8, 8));
}

TEST(CopyInPlace, Errors) {
  EXPECT_EQ(message_of<ShapeError>([] {
              static_cast<void>(zeros({2, 3}).copy_(zeros({2})));
            }),
            "[copy_] shapes [2, 3] and [2] do not broadcast: dimension 1 is 3 in one and 2 in the other; they must be "
            "equal or 1");
  EXPECT_EQ(message_of<ShapeError>([] {
              static_cast<void>(zeros({3}).copy_(zeros({2, 3})));
            }),
            "[copy_] a source of shape [2, 3] does not broadcast to the target's shape [3]");
  // Several indices of the target are one address: which value would it get?
  EXPECT_EQ(
      message_of<ShapeError>([] { static_cast<void>(zeros({1}).expand({3}).copy_(arange(3))); }),
      "[copy_] a tensor of shape [3] with strides [0] cannot be written in place: several of its elements are one "
      "in memory; write to a clone()");
  EXPECT_THROW(static_cast<void>(zeros({2}).copy_(Tensor())), Error);
}

TEST(Items, OneElementOfAnyRank) {
  EXPECT_EQ(full({}, 2.5).item<float>(), 2.5F);
  EXPECT_EQ(full({1, 1, 1}, 2.5).item<int>(), 2);
  EXPECT_EQ(full({}, true, {DType::boolean}).item<bool>(), true);
  EXPECT_EQ(full({}, 7, {DType::u8}).item<double>(), 7.0);
  EXPECT_EQ(full({}, -7, {DType::i32}).item<std::int64_t>(), -7);
  EXPECT_EQ(full({}, 1.5, {DType::f16}).item<float>(), 1.5F);
  EXPECT_EQ(full({}, 1.5, {DType::bf16}).item<double>(), 1.5);
  EXPECT_EQ(arange(10).select(0, 7).item<int>(), 7);
  EXPECT_EQ(full({}, 0.1, {DType::f64}).item<double>(), 0.1);
  EXPECT_EQ(message_of<ShapeError>([] {
              static_cast<void>(zeros({2, 3}).item<float>());
            }),
            "[item] the tensor of shape [2, 3] has 6 elements, not one; index it first");
  EXPECT_THROW(static_cast<void>(zeros({0}).item<float>()), ShapeError);
}

TEST(Items, WholeTensorsOnTheHost) {
  EXPECT_EQ(message_of<DtypeError>([] { static_cast<void>(zeros({2}).to_vector<double>()); }),
            "[to_vector] the tensor holds f32 but was read as f64: convert it with to()");
  EXPECT_EQ(message_of<DtypeError>([] { static_cast<void>(zeros({2}).data<std::int32_t>()); }),
            "[data] the tensor holds f32 but was read as i32: convert it with to()");
  EXPECT_THAT(arange(3).expand({2, 3}).to_vector<std::int64_t>(), ElementsAre(0, 1, 2, 0, 1, 2));
  EXPECT_TRUE(zeros({0, 5}).to_vector<float>().empty());
  EXPECT_THAT(ones({2}, {DType::boolean}).to_vector<bool>(), ElementsAre(true, true));
  EXPECT_THAT(from_vector<std::uint8_t>({3, 255}).to_doubles(), ElementsAre(3, 255));
}

}  // namespace
}  // namespace trinix
