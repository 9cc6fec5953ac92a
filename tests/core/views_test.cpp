// Views against naive index arithmetic, on several memory layouts: shapes, values, shared storage, and what is refused.
#include "naive.h"
#include "support/errors.h"

#include <gtest/gtest.h>
#include <limits>

#include <trinix/core/error.h>

namespace trinix {
namespace {

using testing::at;
using testing::counting;
using testing::for_each_index;
using testing::Index;
using testing::message_of;

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();

/// Checks a view of `base`: its shape, and that its element at each index is base's at where(index); read in place and
/// through a copy.
void expect_view(const Tensor& view, const Tensor& base, const Shape& shape,
                 const std::function<Index(const Index&)>& where) {
  ASSERT_EQ(view.shape(), shape);
  EXPECT_EQ(view.storage(), base.storage()) << "a view shares its storage";
  EXPECT_TRUE(view.is_view());
  std::vector<std::int64_t> expected;
  for_each_index(shape, [&](const Index& i) {
    expected.push_back(at<std::int64_t>(base, where(i)));
    ASSERT_EQ(at<std::int64_t>(view, i), expected.back());
  });
  EXPECT_EQ(view.to_vector<std::int64_t>(), expected);
  EXPECT_TRUE(view.contiguous().is_contiguous());
  EXPECT_EQ(view.contiguous().to_vector<std::int64_t>(), expected);
}

class Views : public ::testing::TestWithParam<int> {
 protected:
  [[nodiscard]] Tensor make(const Shape& shape) const { return counting(shape, GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Layouts, Views, ::testing::Range(0, testing::kLayouts), [](const auto& info) {
  std::string name = testing::layout_name(info.param);
  std::erase_if(name, [](char c) { return !std::isalnum(c); });
  return name;
});

TEST_P(Views, Permute) {
  const Tensor t = make({2, 3, 4});
  Index order = {0, 1, 2};
  do {
    const Dims dims(order);
    Shape shape;
    for (const std::int64_t d : order) shape.push_back(t.shape()[static_cast<int>(d)]);
    expect_view(t.permute(dims), t, shape, [&](const Index& i) {
      Index source(3);
      for (std::size_t d = 0; d < 3; ++d) source[static_cast<std::size_t>(order[d])] = i[d];
      return source;
    });
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(t.permute({-1, 0, -2}).shape(), Shape({4, 2, 3}));
}

TEST_P(Views, Transpose) {
  const Tensor t = make({2, 3, 4});
  expect_view(t.transpose(0, 2), t, {4, 3, 2}, [](const Index& i) { return Index{i[2], i[1], i[0]}; });
  expect_view(t.transpose(-1, -2), t, {2, 4, 3}, [](const Index& i) { return Index{i[0], i[2], i[1]}; });
  expect_view(t.transpose(1, 1), t, {2, 3, 4}, [](const Index& i) { return i; });
}

TEST_P(Views, SliceClampsLikePython) {
  const std::int64_t n = 7;
  const Tensor t = make({2, n, 3});
  for (const std::int64_t start : {kLeast, std::int64_t{-9}, std::int64_t{-7}, std::int64_t{-2}, std::int64_t{0},
                                   std::int64_t{3}, std::int64_t{7}, kMost}) {
    for (const std::int64_t end : {kLeast, std::int64_t{-8}, std::int64_t{-1}, std::int64_t{0}, std::int64_t{5},
                                   std::int64_t{7}, std::int64_t{100}, kMost}) {
      for (const std::int64_t step :
           {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{7}, std::int64_t{100}, kMost}) {
        SCOPED_TRACE(std::to_string(start) + ":" + std::to_string(end) + ":" + std::to_string(step));
        std::vector<std::int64_t> picked;
        const auto wrap = [&](std::int64_t i) { return std::clamp<std::int64_t>(i < 0 ? i + n : i, 0, n); };
        for (std::int64_t i = wrap(start); i<wrap(end); i = step> n ? n : i + step) picked.push_back(i);
        expect_view(t.slice(1, start, end, step), t, {2, static_cast<std::int64_t>(picked.size()), 3},
                    [&](const Index& i) {
                      return Index{i[0], picked[static_cast<std::size_t>(i[1])], i[2]};
                    });
      }
    }
  }
}

TEST_P(Views, Narrow) {
  const Tensor t = make({5, 4});
  for (std::int64_t start = 0; start <= 5; ++start) {
    for (std::int64_t length = 0; length <= 5 - start; ++length) {
      expect_view(t.narrow(0, start, length), t, {length, 4}, [&](const Index& i) {
        return Index{i[0] + start, i[1]};
      });
    }
  }
  expect_view(t.narrow(-1, 1, 2), t, {5, 2}, [](const Index& i) { return Index{i[0], i[1] + 1}; });
}

TEST_P(Views, Select) {
  const Tensor t = make({2, 3, 4});
  for (std::int64_t k = -3; k < 3; ++k) {
    expect_view(t.select(1, k), t, {2, 4}, [&](const Index& i) { return Index{i[0], k < 0 ? k + 3 : k, i[1]}; });
  }
  expect_view(t[1], t, {3, 4}, [](const Index& i) { return Index{1, i[0], i[1]}; });
  expect_view(t[1][2][3], t, {}, [](const Index&) { return Index{1, 2, 3}; });
  EXPECT_EQ(t[1][2][3].item<std::int64_t>(), 23);
}

TEST_P(Views, Expand) {
  const Tensor t = make({3, 1, 2});
  expect_view(t.expand({3, 5, 2}), t, {3, 5, 2}, [](const Index& i) { return Index{i[0], 0, i[2]}; });
  expect_view(t.expand({4, -1, 5, -1}), t, {4, 3, 5, 2}, [](const Index& i) { return Index{i[1], 0, i[3]}; });
  expect_view(t.expand({3, 0, 2}), t, {3, 0, 2}, [](const Index& i) { return i; });
  expect_view(t.expand({3, 1, 2}), t, {3, 1, 2}, [](const Index& i) { return i; });
}

TEST_P(Views, SqueezeAndUnsqueeze) {
  const Tensor t = make({1, 3, 1, 2, 1});
  const auto all = [](const Index& i) { return Index{0, i[0], 0, i[1], 0}; };
  expect_view(t.squeeze(), t, {3, 2}, all);
  expect_view(t.squeeze({0, 1, 2, 3, 4}), t, {3, 2}, all);
  expect_view(t.squeeze({2}), t, {1, 3, 2, 1}, [](const Index& i) { return Index{i[0], i[1], 0, i[2], i[3]}; });
  expect_view(t.squeeze({-1, 0}), t, {3, 1, 2}, [](const Index& i) { return Index{0, i[0], i[1], i[2], 0}; });
  expect_view(t.squeeze({1}), t, {1, 3, 1, 2, 1}, [](const Index& i) { return i; });

  const Tensor u = make({3, 2});
  expect_view(u.unsqueeze(0), u, {1, 3, 2}, [](const Index& i) { return Index{i[1], i[2]}; });
  expect_view(u.unsqueeze(1), u, {3, 1, 2}, [](const Index& i) { return Index{i[0], i[2]}; });
  expect_view(u.unsqueeze(-1), u, {3, 2, 1}, [](const Index& i) { return Index{i[0], i[1]}; });
  expect_view(u.unsqueeze(2), u, {3, 2, 1}, [](const Index& i) { return Index{i[0], i[1]}; });
  EXPECT_EQ(make({}).unsqueeze(0).shape(), Shape({1}));
  EXPECT_EQ(make({}).squeeze().shape(), Shape());
}

TEST_P(Views, Diagonal) {
  const Tensor t = make({4, 3, 5});
  for (std::int64_t offset = -6; offset <= 6; ++offset) {
    SCOPED_TRACE(offset);
    const std::int64_t down = std::max<std::int64_t>(-offset, 0);
    const std::int64_t right = std::max<std::int64_t>(offset, 0);
    const auto count = [&](std::int64_t rows, std::int64_t columns) {
      return std::max<std::int64_t>(std::min(rows - down, columns - right), 0);
    };
    expect_view(t.diagonal(offset), t, {5, count(4, 3)}, [&](const Index& i) {
      return Index{i[1] + down, i[1] + right, i[0]};
    });
    expect_view(t.diagonal(offset, 2, 0), t, {3, count(5, 4)}, [&](const Index& i) {
      return Index{i[1] + right, i[0], i[1] + down};
    });
  }
  EXPECT_EQ(t.diagonal(kMost).shape(), Shape({5, 0}));
  EXPECT_EQ(t.diagonal(kLeast).shape(), Shape({5, 0}));
}

TEST_P(Views, ReshapeKeepsTheRowMajorOrder) {
  const Tensor t = make({2, 3, 4});
  std::vector<std::int64_t> expected(24);
  for (std::size_t i = 0; i < 24; ++i) expected[i] = static_cast<std::int64_t>(i);
  for (const Shape& shape :
       {Shape({24}), Shape({6, 4}), Shape({2, 12}), Shape({4, 3, 2}), Shape({1, 24, 1}), Shape({2, 3, 2, 2}),
        Shape({2, 1, 3, 1, 4}), Shape({2, 3, 4}), Shape({-1}), Shape({8, -1}), Shape({-1, 3}), Shape({2, 3, 4, -1})}) {
    SCOPED_TRACE(shape.to_string());
    const Tensor r = t.reshape(shape);
    EXPECT_EQ(r.to_vector<std::int64_t>(), expected);
    std::size_t n = 0;
    for_each_index(r.shape(), [&](const Index& i) { ASSERT_EQ(at<std::int64_t>(r, i), expected[n++]); });
    EXPECT_EQ(n, 24U);
    // Only what strides cannot express is copied; view() refuses exactly that.
    if (r.storage() == t.storage()) {
      EXPECT_EQ(t.view(shape).to_vector<std::int64_t>(), expected);
    } else {
      EXPECT_NE(GetParam(), 0) << "row-major memory never needs a copy";
      EXPECT_THROW(static_cast<void>(t.view(shape)), ShapeError);
    }
  }
  EXPECT_EQ(t.reshape({8, -1}).shape(), Shape({8, 3}));
}

TEST_P(Views, ReshapeOfPartsCopiesOnlyWhenItMust) {
  const Tensor t = make({4, 6, 5});
  const Tensor rows = t.slice(0, 0, 4, 2);  // dims 1 and 2 stay one run in memory when t is row-major
  EXPECT_EQ(rows.reshape({2, 30}).storage() == t.storage(), GetParam() != 1);
  EXPECT_EQ(rows.reshape({2, 3, 10}).storage() == t.storage(), GetParam() != 1);
  EXPECT_EQ(rows.reshape({60}).storage() == t.storage(), false);
  for (const Shape& shape : {Shape({2, 30}), Shape({60}), Shape({2, 3, 10}), Shape({4, 15}), Shape({2, 2, 3, 5})}) {
    EXPECT_EQ(rows.reshape(shape).to_vector<std::int64_t>(), rows.contiguous().to_vector<std::int64_t>());
  }
  const Tensor wide = t.select(1, 0).unsqueeze(1).expand({4, 3, 5});
  EXPECT_EQ(wide.reshape({12, 5}).to_vector<std::int64_t>(), wide.to_vector<std::int64_t>());
  EXPECT_EQ(wide.reshape({4, 15}).to_vector<std::int64_t>(), wide.to_vector<std::int64_t>());
}

TEST_P(Views, Flatten) {
  const Tensor t = make({2, 3, 4, 5});
  EXPECT_EQ(t.flatten().shape(), Shape({120}));
  EXPECT_EQ(t.flatten(1, 2).shape(), Shape({2, 12, 5}));
  EXPECT_EQ(t.flatten(-2).shape(), Shape({2, 3, 20}));
  EXPECT_EQ(t.flatten(1, 1).shape(), Shape({2, 3, 4, 5}));
  EXPECT_EQ(make({}).flatten().shape(), Shape({1}));
  EXPECT_EQ(t.flatten(1, 2).to_vector<std::int64_t>(), t.to_vector<std::int64_t>());
}

TEST_P(Views, ViewsOfViews) {
  const Tensor t = make({4, 5, 6});
  const Tensor v = t.slice(2, 1, 6, 2).transpose(0, 2).narrow(1, 1, 3).select(0, 2).diagonal(-1);
  // slice: c = 1 + 2k; transpose: (k, b, a); narrow: b + 1; select: k = 2; diagonal of (b, a): b = i + 1, a = i
  expect_view(v, t, {2}, [](const Index& i) { return Index{i[0], i[0] + 2, 5}; });
}

TEST_P(Views, EmptyTensorsHaveViewsToo) {
  const Tensor t = make({3, 0, 2});
  EXPECT_EQ(t.permute({2, 1, 0}).shape(), Shape({2, 0, 3}));
  EXPECT_EQ(t.reshape({0}).shape(), Shape({0}));
  EXPECT_EQ(t.reshape({5, 0, 7}).shape(), Shape({5, 0, 7}));
  EXPECT_EQ(t.select(0, 2).shape(), Shape({0, 2}));
  EXPECT_EQ(t.slice(0, 1, 3).shape(), Shape({2, 0, 2}));
  EXPECT_EQ(t.flatten().shape(), Shape({0}));
  EXPECT_EQ(t.diagonal(0, 0, 1).shape(), Shape({2, 0}));
  EXPECT_EQ(t.reshape({-1, 2}).shape(), Shape({0, 2}));
  EXPECT_TRUE(t.to_vector<std::int64_t>().empty());
  EXPECT_TRUE(empty({3, 0, 2}).is_contiguous());
}

TEST_P(Views, AWriteThroughOneIsSeenThroughAll) {
  const Tensor t = make({3, 4});
  static_cast<void>(t.transpose(0, 1).select(0, 2).copy_(full({3}, 100, {DType::i64})));
  for (std::int64_t i = 0; i < 3; ++i) EXPECT_EQ(at<std::int64_t>(t, {i, 2}), 100);
  EXPECT_EQ(at<std::int64_t>(t, {1, 1}), 5);
}

TEST(ViewErrors, SayWhichDimAndShape) {
  const Tensor t = arange(24).reshape({2, 3, 4});
  const auto index = [](auto&& f) { return message_of<IndexError>(f); };
  const auto shape = [](auto&& f) { return message_of<ShapeError>(f); };
  EXPECT_EQ(index([&] { static_cast<void>(t.transpose(0, 3)); }),
            "[transpose] dim 3 is out of range for a tensor of rank 3: expected -3 to 2");
  EXPECT_EQ(shape([&] {
              static_cast<void>(t.permute({0, 1}));
            }),
            "[permute] [0, 1] names 2 dims, the tensor of shape [2, 3, 4] has 3");
  EXPECT_EQ(index([&] { static_cast<void>(t.permute({0, 1, -2})); }), "[permute] dim -2 is given twice in [0, 1, -2]");
  EXPECT_EQ(shape([&] { static_cast<void>(t.slice(0, 0, 2, 0)); }), "[slice] the step must be at least 1, got 0");
  EXPECT_EQ(shape([&] { static_cast<void>(t.slice(0, 2, 0, -1)); }), "[slice] the step must be at least 1, got -1");
  EXPECT_EQ(index([&] { static_cast<void>(t.narrow(1, 2, 2)); }),
            "[narrow] 2 elements from 2 are not in dim 1 of shape [2, 3, 4]");
  EXPECT_THROW(static_cast<void>(t.narrow(1, 1, kMost)), IndexError);
  EXPECT_THROW(static_cast<void>(t.narrow(1, -1, 1)), IndexError);
  EXPECT_THROW(static_cast<void>(t.narrow(1, 0, -1)), IndexError);
  EXPECT_EQ(index([&] { static_cast<void>(t.select(2, 4)); }),
            "[select] index 4 is out of range in dim 2 of shape [2, 3, 4]");
  EXPECT_THROW(static_cast<void>(t.select(2, -5)), IndexError);
  EXPECT_THROW(static_cast<void>(t.select(2, kLeast)), IndexError);
  EXPECT_THROW(static_cast<void>(ones({})[0]), IndexError);
  EXPECT_EQ(shape([&] {
              static_cast<void>(t.expand({2, 3, 5}));
            }),
            "[expand] shape [2, 3, 4] cannot become [2, 3, 5]: dim 2 is 4 and only dims of size 1 are repeated");
  EXPECT_EQ(shape([&] { static_cast<void>(t.expand({3, 4})); }), "[expand] shape [2, 3, 4] has more dims than [3, 4]");
  EXPECT_EQ(shape([&] {
              static_cast<void>(t.expand({-1, 2, 3, 4}));
            }),
            "[expand] [-1, 2, 3, 4] asks to keep dim 0, which shape [2, 3, 4] does not have");
  EXPECT_THROW(static_cast<void>(ones({1}).expand({-2})), ShapeError);
  EXPECT_EQ(index([&] { static_cast<void>(t.squeeze({5})); }),
            "[squeeze] dim 5 is out of range for a tensor of rank 3: expected -3 to 2");
  EXPECT_EQ(index([&] { static_cast<void>(t.unsqueeze(4)); }),
            "[unsqueeze] dim 4 is out of range for a tensor of rank 4: expected -4 to 3");
  EXPECT_EQ(index([&] { static_cast<void>(t.diagonal(0, 1, -2)); }), "[diagonal] dims 1 and -2 are the same");
  EXPECT_THROW(static_cast<void>(ones({3}).diagonal()), IndexError);
  EXPECT_EQ(shape([&] {
              static_cast<void>(t.reshape({5, 5}));
            }),
            "[reshape] shape [2, 3, 4] has 24 elements, but [5, 5] has 25");
  EXPECT_EQ(shape([&] {
              static_cast<void>(t.reshape({5, -1}));
            }),
            "[reshape] 24 elements of shape [2, 3, 4] cannot be arranged as [5, -1]");
  EXPECT_EQ(shape([&] { static_cast<void>(t.reshape({-1, -1})); }), "[reshape] [-1, -1] has more than one -1");
  EXPECT_EQ(shape([&] { static_cast<void>(t.reshape({-2, 12})); }), "[reshape] [-2, 12] is not a shape");
  EXPECT_THROW(static_cast<void>(t.reshape({0, -1})), ShapeError);
  EXPECT_THROW(static_cast<void>(empty({0}).reshape({0, -1})), ShapeError) << "any size would do";
  EXPECT_THROW(static_cast<void>(t.reshape({std::int64_t{1} << 32, std::int64_t{1} << 32})), ShapeError);
  EXPECT_EQ(shape([&] { static_cast<void>(t.transpose(0, 1).view({24})); }),
            "[view] shape [3, 2, 4] with strides [4, 12, 1] cannot be seen as [24] without a copy; use reshape()");
  EXPECT_EQ(index([&] { static_cast<void>(t.flatten(2, 1)); }), "[flatten] dim 2 lies after dim 1");
  EXPECT_THROW(static_cast<void>(empty({0, kMost, kMost}).flatten(1, 2)), ShapeError);
}

TEST(ViewErrors, AnUndefinedTensorSaysSo) {
  EXPECT_EQ(message_of<Error>([] { static_cast<void>(Tensor().shape()); }),
            "[tensor] an undefined tensor was used; give it a value first (for example with zeros())");
  EXPECT_THROW(static_cast<void>(Tensor().reshape({1})), Error);
  EXPECT_THROW(static_cast<void>(Tensor().numel()), Error);
}

}  // namespace
}  // namespace trinix
