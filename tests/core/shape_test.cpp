#include "support/errors.h"

#include <gtest/gtest.h>
#include <limits>

#include <trinix/core/error.h>
#include <trinix/core/shape.h>
#include <trinix/core/tensor.h>

namespace trinix {
namespace {

using testing::message_of;

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

TEST(Shape, CountsElements) {
  EXPECT_EQ(numel({}), 1);
  EXPECT_EQ(numel({7}), 7);
  EXPECT_EQ(numel({2, 3, 4}), 24);
  EXPECT_EQ(numel({kHuge}), kHuge);
  EXPECT_EQ(numel({std::int64_t{1} << 31, std::int64_t{1} << 31}), std::int64_t{1} << 62);
}

TEST(Shape, AZeroMakesItEmptyWhereverItStands) {
  EXPECT_EQ(numel({0}), 0);
  EXPECT_EQ(numel({2, 0, 3}), 0);
  EXPECT_EQ(numel({0, kHuge, kHuge}), 0);
  EXPECT_EQ(numel({kHuge, kHuge, 0}), 0);
}

TEST(Shape, AProductThatOverflowsIsAnErrorNotAWrap) {
  const std::int64_t half = std::int64_t{1} << 32;
  // Wraps to 0 in 64 bits.
  EXPECT_EQ(message_of<ShapeError>([&] {
              static_cast<void>(numel({half, half}));
            }),
            "[shape] the number of elements of [4294967296, 4294967296] does not fit in 63 bits");
  EXPECT_THROW(static_cast<void>(numel({kHuge, 2})), ShapeError);
  EXPECT_THROW(static_cast<void>(numel({2, std::int64_t{1} << 62})), ShapeError);
  EXPECT_THROW(static_cast<void>(zeros({half, half})), ShapeError);
  EXPECT_THROW(static_cast<void>(zeros({kHuge, 2, 3, 5})), ShapeError);
  EXPECT_THROW(static_cast<void>(ones({1}).expand({half, half})), ShapeError);
}

TEST(Shape, ByteCountsThatOverflowAreErrorsToo) {
  EXPECT_EQ(message_of<ShapeError>([] { static_cast<void>(empty({std::int64_t{1} << 61}, {DType::f64})); }),
            "[empty] 2305843009213693952 elements of f64 do not fit in 63 bits of bytes");
  EXPECT_THROW(static_cast<void>(from_memory(&errno, {std::int64_t{1} << 61}, DType::f64, {}, nullptr)), ShapeError);
}

TEST(Shape, NegativeDimsAreErrors) {
  EXPECT_EQ(message_of<ShapeError>([] { static_cast<void>(zeros({2, -3})); }), "[shape] negative dimension in [2, -3]");
  EXPECT_THROW(static_cast<void>(zeros({-1})), ShapeError);
  EXPECT_THROW(static_cast<void>(zeros({0, -1})), ShapeError);
  EXPECT_THROW(static_cast<void>(zeros({std::numeric_limits<std::int64_t>::min()})), ShapeError);
}

TEST(Shape, HoldsAtMostEightDims) {
  EXPECT_EQ(Shape({1, 2, 3, 4, 5, 6, 7, 8}).size(), 8);
  EXPECT_EQ(message_of<ShapeError>([] {
              static_cast<void>(Shape({1, 2, 3, 4, 5, 6, 7, 8, 9}));
            }),
            "[shape] 9 dimensions given, at most 8 are supported");
  Shape full = Shape::filled(8, 1);
  EXPECT_EQ(message_of<ShapeError>([&] { full.push_back(1); }), "[shape] more than 8 dimensions are not supported");
  EXPECT_THROW(static_cast<void>(ones(full).unsqueeze(0)), ShapeError);
}

TEST(Shape, InsertsErasesAndPrints) {
  Shape s = {2, 4};
  s.insert(1, 3);
  s.insert(0, 1);
  s.push_back(5);
  EXPECT_EQ(s.to_string(), "[1, 2, 3, 4, 5]");
  s.erase(0);
  s.erase(3);
  EXPECT_EQ(s, Shape({2, 3, 4}));
  EXPECT_NE(s, Shape({2, 3}));
  EXPECT_TRUE(s.contains(3));
  EXPECT_FALSE(s.contains(5));
  EXPECT_EQ(Shape().to_string(), "[]");
}

TEST(Shape, RowMajorStrides) {
  EXPECT_EQ(contiguous_strides({2, 3, 4}), Strides({12, 4, 1}));
  EXPECT_EQ(contiguous_strides({}), Strides());
  EXPECT_EQ(contiguous_strides({2, 0, 3}), Strides({3, 3, 1}));
}

TEST(Shape, BroadcastsByNumpysRule) {
  EXPECT_EQ(broadcast_shapes("op", {2, 3}, {3}), Shape({2, 3}));
  EXPECT_EQ(broadcast_shapes("op", {2, 1}, {1, 3}), Shape({2, 3}));
  EXPECT_EQ(broadcast_shapes("op", {}, {4}), Shape({4}));
  EXPECT_EQ(broadcast_shapes("op", {1}, {0}), Shape({0}));
  EXPECT_EQ(broadcast_shapes("op", {5, 1, 2}, {3, 1}), Shape({5, 3, 2}));
  EXPECT_EQ(message_of<ShapeError>([] {
              static_cast<void>(broadcast_shapes("add", {2, 3}, {4}));
            }),
            "[add] shapes [2, 3] and [4] do not broadcast: dimension 1 is 3 in one and 4 in the other; they must be "
            "equal or 1");
  EXPECT_THROW(static_cast<void>(broadcast_shapes("add", {2}, {0})), ShapeError);
}

TEST(Shape, WrapsDims) {
  EXPECT_EQ(wrap_dim("op", -1, 3), 2);
  EXPECT_EQ(wrap_dim("op", 0, 3), 0);
  EXPECT_EQ(message_of<IndexError>([] { static_cast<void>(wrap_dim("op", 3, 3)); }),
            "[op] dim 3 is out of range for a tensor of rank 3: expected -3 to 2");
  EXPECT_THROW(static_cast<void>(wrap_dim("op", -4, 3)), IndexError);
  EXPECT_THROW(static_cast<void>(wrap_dim("op", 0, 0)), IndexError);
  EXPECT_EQ(wrap_dims("op", {-1, 0}, 3), Dims({0, 2}));
  EXPECT_EQ(wrap_dims("op", {}, 3), Dims({0, 1, 2}));
  EXPECT_EQ(message_of<IndexError>([] {
              static_cast<void>(wrap_dims("op", {1, -2}, 3));
            }),
            "[op] dim -2 is given twice in [1, -2]");
}

}  // namespace
}  // namespace trinix
