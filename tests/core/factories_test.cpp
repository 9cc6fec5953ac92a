#include "support/errors.h"

#include <array>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include <trinix/core/error.h>
#include <trinix/core/tensor.h>

namespace trinix {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::message_of;

constexpr DType kDtypes[] = {DType::boolean, DType::u8,   DType::i32, DType::i64,
                             DType::f16,     DType::bf16, DType::f32, DType::f64};

TEST(Factories, ConstantsOfEveryDtypeAndShape) {
  for (const DType dtype : kDtypes) {
    for (const Shape& shape : {Shape(), Shape({3}), Shape({0}), Shape({2, 3, 5}), Shape({70001})}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + shape.to_string());
      const TensorOptions options{dtype};
      EXPECT_THAT(zeros(shape, options).to_doubles(), Each(0.0));
      EXPECT_THAT(ones(shape, options).to_doubles(), Each(1.0));
      EXPECT_THAT(full(shape, 3, options).to_doubles(), Each(dtype == DType::boolean ? 1.0 : 3.0));
      const Tensor t = empty(shape, options);
      EXPECT_EQ(t.shape(), shape);
      EXPECT_EQ(t.dtype(), dtype);
      EXPECT_TRUE(t.is_contiguous());
      EXPECT_FALSE(t.requires_grad());
      EXPECT_EQ(t.numel(), numel(shape));
    }
  }
}

TEST(Factories, LikeFormsTakeShapeAndDtype) {
  const Tensor t = arange(6).reshape({2, 3}).transpose(0, 1);
  for (const Tensor& like : {empty_like(t), zeros_like(t), ones_like(t), full_like(t, 7)}) {
    EXPECT_EQ(like.shape(), Shape({3, 2}));
    EXPECT_EQ(like.dtype(), DType::i64);
    EXPECT_TRUE(like.is_contiguous());
  }
  EXPECT_THAT(full_like(t, 7).to_vector<std::int64_t>(), Each(7));
}

TEST(Factories, ArangeStopsBeforeTheEnd) {
  EXPECT_THAT(arange(5).to_vector<std::int64_t>(), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(arange(2, 8, 3).to_vector<std::int64_t>(), ElementsAre(2, 5));
  EXPECT_THAT(arange(2, 9, 3).to_vector<std::int64_t>(), ElementsAre(2, 5, 8));
  EXPECT_THAT(arange(5, 0, -2).to_vector<std::int64_t>(), ElementsAre(5, 3, 1));
  EXPECT_THAT(arange(0).to_vector<std::int64_t>(), IsEmpty());
  EXPECT_THAT(arange(5, 0).to_vector<std::int64_t>(), IsEmpty());
  EXPECT_THAT(arange(0, 5, -1).to_vector<std::int64_t>(), IsEmpty());
  EXPECT_THAT(arange(3, {DType::f32}).to_vector<float>(), ElementsAre(0, 1, 2));
  EXPECT_THAT(arange(0, 1, 0.25, {DType::f64}).to_vector<double>(), ElementsAre(0, 0.25, 0.5, 0.75));
  EXPECT_THAT(arange(1.5, -0.5, -0.5, {DType::f32}).to_vector<float>(), ElementsAre(1.5F, 1, 0.5F, 0));
  EXPECT_THAT(arange(3, {DType::bf16}).to_doubles(), ElementsAre(0, 1, 2));
}

TEST(Factories, ArangeOfFractionsIsFloatingPointByDefault) {
  const Tensor t = arange(0.0, 1.0, 0.25);
  EXPECT_EQ(t.dtype(), DType::f32);
  EXPECT_THAT(t.to_doubles(), ElementsAre(0, 0.25, 0.5, 0.75));
  EXPECT_EQ(arange(0, 3).dtype(), DType::i64);
  EXPECT_EQ(arange(0, 3, 0.5).dtype(), DType::f32);
}

TEST(Factories, ArangeIsExactBeyondDoubles) {
  const std::int64_t big = (std::int64_t{1} << 53) + 1;
  EXPECT_THAT(arange(big, big + 3).to_vector<std::int64_t>(), ElementsAre(big, big + 1, big + 2));
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  EXPECT_THAT(arange(most - 2, most, 1).to_vector<std::int64_t>(), ElementsAre(most - 2, most - 1));
  EXPECT_THAT(arange(most - 4, most, most).to_vector<std::int64_t>(), ElementsAre(most - 4));
}

TEST(Factories, ArangeRefusesWhatHasNoLength) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(message_of<ConfigError>([] { static_cast<void>(arange(0, 5, 0)); }), "[arange] the step must not be 0");
  EXPECT_THROW(static_cast<void>(arange(0, 5, 0.0)), ConfigError);
  EXPECT_THROW(static_cast<void>(arange(-most, most, 1)), ConfigError);
  EXPECT_THROW(static_cast<void>(arange(0, INFINITY)), ConfigError);
  EXPECT_THROW(static_cast<void>(arange(0, std::nan(""))), ConfigError);
  EXPECT_THROW(static_cast<void>(arange(0, 1, 1e-300)), ConfigError);
}

TEST(Factories, LinspaceHoldsBothEnds) {
  EXPECT_THAT(linspace(0, 1, 5).to_vector<float>(), ElementsAre(0, 0.25F, 0.5F, 0.75F, 1));
  EXPECT_THAT(linspace(3, -1, 3).to_vector<float>(), ElementsAre(3, 1, -1));
  EXPECT_THAT(linspace(2, 9, 1).to_vector<float>(), ElementsAre(2));
  EXPECT_THAT(linspace(2, 9, 0).to_vector<float>(), IsEmpty());
  for (const std::int64_t n : {2, 3, 7, 10, 49, 1000}) {
    const auto values = linspace(0.1, 0.7, n, {DType::f64}).to_vector<double>();
    EXPECT_EQ(values.front(), 0.1);
    EXPECT_EQ(values.back(), 0.7) << "the end itself, not the end up to rounding";
  }
  EXPECT_EQ(message_of<ConfigError>([] { static_cast<void>(linspace(0, 1, -1)); }),
            "[linspace] -1 values were asked for");
}

TEST(Factories, Eye) {
  EXPECT_THAT(eye(2).to_vector<float>(), ElementsAre(1, 0, 0, 1));
  EXPECT_THAT(eye(2, 3).to_vector<float>(), ElementsAre(1, 0, 0, 0, 1, 0));
  EXPECT_THAT(eye(3, 2, {DType::i64}).to_vector<std::int64_t>(), ElementsAre(1, 0, 0, 1, 0, 0));
  EXPECT_EQ(eye(0).shape(), Shape({0, 0}));
  EXPECT_EQ(eye(3, 0).shape(), Shape({3, 0}));
  EXPECT_THROW(static_cast<void>(eye(-1)), ShapeError);
}

TEST(Factories, FromHostValues) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(from_vector(values).shape(), Shape({6}));
  const Tensor t = from_vector(values, {2, 3});
  EXPECT_EQ(t.dtype(), DType::f32);
  EXPECT_EQ(t.to_vector<float>(), values);
  t.data<float>()[0] = 9;
  EXPECT_EQ(values[0], 1) << "the values are copied";
  const std::array<std::int64_t, 2> two = {7, 8};
  EXPECT_THAT(from_span(std::span<const std::int64_t>(two), {2, 1}).to_vector<std::int64_t>(), ElementsAre(7, 8));
  EXPECT_EQ(from_vector(std::vector<float>{}).shape(), Shape({0}));
  const Tensor flags = from_vector(std::vector<bool>{true, false, true});
  EXPECT_EQ(flags.dtype(), DType::boolean);
  EXPECT_THAT(flags.to_vector<bool>(), ElementsAre(true, false, true));
  EXPECT_EQ(from_vector(std::vector<double>{2.5}, Shape()).item<double>(), 2.5);
  EXPECT_TRUE(from_vector(values, {2, 3}, {.requires_grad = true}).requires_grad());
  EXPECT_EQ(message_of<ShapeError>([&] {
              static_cast<void>(from_vector(values, {2, 2}));
            }),
            "[from_span] 6 values were given for shape [2, 2], which has 4");
}

TEST(Factories, ForeignMemoryIsAdoptedAndReleasedOnce) {
  std::array<float, 6> memory = {0, 1, 2, 3, 4, 5};
  int released = 0;
  void* seen = nullptr;
  {
    Tensor view;
    {
      const Tensor t = from_memory(memory.data(), {2, 3}, DType::f32, Device::cpu(), [&](void* p) {
        ++released;
        seen = p;
      });
      EXPECT_EQ(t.raw_data(), memory.data()) << "nothing is copied";
      EXPECT_EQ(t.to_vector<float>()[4], 4);
      memory[4] = 40;
      EXPECT_EQ(t.to_vector<float>()[4], 40);
      const Tensor handle = t;
      view = t.select(0, 1);
    }
    EXPECT_EQ(released, 0) << "a view still looks at it";
    EXPECT_THAT(view.to_vector<float>(), ElementsAre(3, 40, 5));
  }
  EXPECT_EQ(released, 1);
  EXPECT_EQ(seen, memory.data());
}

TEST(Factories, ForeignMemoryMayHaveNoDeleterAndNoElements) {
  std::array<std::int32_t, 2> memory = {1, 2};
  EXPECT_THAT(from_memory(memory.data(), {2}, DType::i32, {}, nullptr).to_vector<std::int32_t>(), ElementsAre(1, 2));
  int released = 0;
  {
    static_cast<void>(from_memory(nullptr, {0}, DType::f32, {}, [&](void*) { ++released; }));
  }
  EXPECT_EQ(released, 1);
  EXPECT_EQ(message_of<ShapeError>([] { static_cast<void>(from_memory(nullptr, {2}, DType::f32, {}, nullptr)); }),
            "[from_memory] null data for a tensor of shape [2]");
}

TEST(Factories, LeavesAreFloatingPoint) {
  EXPECT_TRUE(zeros({2}, {.requires_grad = true}).requires_grad());
  EXPECT_EQ(message_of<DtypeError>([] {
              static_cast<void>(zeros({2}, {DType::i64, {}, true}));
            }),
            "[requires_grad_] a tensor of i64 cannot require grad: only floating-point tensors can");
}

TEST(Handles, CopiesShareEverything) {
  const Tensor a = arange(3);
  const Tensor b = a;
  EXPECT_TRUE(a.same(b));
  EXPECT_FALSE(a.same(arange(3)));
  EXPECT_FALSE(a.same(a.detach()));
  EXPECT_FALSE(Tensor().defined());
  EXPECT_TRUE(Tensor().same(Tensor()));
}

TEST(Handles, SizeCountsFromTheEndToo) {
  const Tensor t = zeros({2, 3});
  EXPECT_EQ(t.size(0), 2);
  EXPECT_EQ(t.size(-1), 3);
  EXPECT_EQ(message_of<IndexError>([&] { static_cast<void>(t.size(2)); }),
            "[size] dim 2 is out of range for a tensor of rank 2: expected -2 to 1");
}

}  // namespace
}  // namespace trinix
