#include "naive.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>

#include <trinix/core/threads.h>

namespace trinix::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

bool before(double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; }

/// Positions of each line along `dim` in sorted order, by a stable sort.
Array naive_order(const Array& x, int dim, bool descending, std::int64_t k) {
  Shape shape = x.shape;
  shape[dim] = k;
  Array out = zero_array(shape);
  Shape lines = x.shape;
  lines[dim] = 1;
  for_each_index(lines, [&](Dims at) {
    std::vector<double> line;
    for (at[dim] = 0; at[dim] < x.shape[dim]; ++at[dim]) line.push_back(x[flat(x.shape, at)]);
    std::vector<std::size_t> order(line.size());
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return descending ? before(line[b], line[a]) : before(line[a], line[b]);
    });
    for (at[dim] = 0; at[dim] < k; ++at[dim]) {
      out[flat(shape, at)] = static_cast<double>(order[static_cast<std::size_t>(at[dim])]);
    }
  });
  return out;
}

Array naive_values(const Array& x, int dim, const Array& order) {
  Array out = order;
  for_each_index(order.shape, [&](const Dims& at) {
    Dims from = at;
    from[dim] = static_cast<std::int64_t>(order[flat(order.shape, at)]);
    out[flat(order.shape, at)] = x[flat(x.shape, from)];
  });
  return out;
}

std::vector<OpCase> sorting_cases() {
  std::vector<OpCase> list;
  for (const int dim : {0, 1, 2}) {
    for (const bool descending : {false, true}) {
      const std::string suffix = std::to_string(dim) + (descending ? "_descending" : "");
      list.push_back({.name = "sort" + suffix,
                      .inputs = {{5, 9, 7}},
                      .function = [=](const auto& x, KernelChoice) { return sort(x[0], dim, descending).first; },
                      .reference =
                          [=](const auto& in) {
                            return naive_values(in[0], dim, naive_order(in[0], dim, descending, in[0].size(dim)));
                          },
                      .layouts = {Layout::contiguous, Layout::transposed, Layout::sliced}});
      list.push_back(
          {.name = "topk" + suffix,
           .inputs = {{5, 9, 7}},
           .function = [=](const auto& x, KernelChoice) { return topk(x[0], 3, dim, descending).first; },
           .reference =
               [=](const auto& in) { return naive_values(in[0], dim, naive_order(in[0], dim, descending, 3)); },
           .layouts = {Layout::contiguous, Layout::transposed, Layout::sliced}});
    }
  }
  return list;
}

class Sorting : public ::testing::TestWithParam<OpCase> {};
TEST_P(Sorting, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, Sorting, ::testing::ValuesIn(sorting_cases()),
                         [](const auto& info) { return info.param.name; });

/// Values of few kinds, so that there are ties, with the awkward ones among them.
std::vector<double> awkward(std::size_t count, DType dtype) {
  std::vector<double> v = random_values(count, 3, 0, 9);
  for (std::size_t i = 0; i < count; ++i) {
    v[i] = std::floor(v[i]);
    if (dtype != DType::u8 && dtype != DType::boolean) v[i] -= 4;
    if (dtype == DType::boolean) v[i] = v[i] > 4 ? 1 : 0;
    if (!is_floating(dtype)) continue;
    if (i % 11 == 3) v[i] = kNan;
    if (i % 13 == 4) v[i] = kInf;
    if (i % 17 == 5) v[i] = -kInf;
    if (i % 19 == 6) v[i] = -0.0;
  }
  return v;
}

class SortingOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, SortingOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(SortingOnDevice, PositionsAreStableInEveryDtypeAndLength) {
  for (const DType dtype :
       {DType::boolean, DType::u8, DType::i32, DType::i64, DType::f16, DType::bf16, DType::f32, DType::f64}) {
    for (const std::int64_t n : {1, 2, 63, 64, 1024, 5001}) {
      const Array x{{n}, awkward(static_cast<std::size_t>(n), dtype)};
      const Tensor t = from_vector(x.values).to(dtype);
      for (const bool descending : {false, true}) {
        SCOPED_TRACE(std::string(name(dtype)) + " " + std::to_string(n) + (descending ? " descending" : ""));
        const Array order = naive_order(x, 0, descending, n);
        const auto [values, positions] = sort(t, 0, descending);
        EXPECT_EQ(positions.to_doubles(), order.values);
        EXPECT_EQ(relative_error(values.to_doubles(), naive_values(x, 0, order).values), 0);
        for (const std::int64_t k : {std::int64_t{1}, (n + 1) / 2, n}) {
          const Array first = naive_order(x, 0, descending, k);
          EXPECT_EQ(topk(t, k, 0, descending).second.to_doubles(), first.values) << k;
        }
      }
    }
  }
}

TEST_P(SortingOnDevice, ExtremesOfIntegers) {
  const Tensor x = from_vector<std::int64_t>({0, INT64_MAX, -1, INT64_MIN, 1});
  EXPECT_EQ(sort(x).first.to_vector<std::int64_t>(), (std::vector<std::int64_t>{INT64_MIN, -1, 0, 1, INT64_MAX}));
  const Tensor y = from_vector<std::int32_t>({0, INT32_MAX, -1, INT32_MIN, 1});
  EXPECT_EQ(sort(y, 0, true).first.to_vector<std::int32_t>(),
            (std::vector<std::int32_t>{INT32_MAX, 1, 0, -1, INT32_MIN}));
}

TEST_P(SortingOnDevice, LongLinesInEveryOrder) {
  // Rising, falling and random: the candidates of topk are thinned out never, always and now and then.
  const std::int64_t n = 20000;
  Array x{{3, n}, random_values(3 * n, 8)};
  for (std::int64_t i = 0; i < n; ++i) {
    x[static_cast<std::size_t>(i)] = static_cast<double>(i);
    x[static_cast<std::size_t>(n + i)] = static_cast<double>(-i);
  }
  const Tensor t = from_vector(x.values, x.shape);
  for (const bool largest : {false, true}) {
    for (const std::int64_t k : {1, 50, 700}) {
      const auto [values, positions] = topk(t, k, -1, largest);
      EXPECT_EQ(positions.to_doubles(), naive_order(x, 1, largest, k).values);
    }
  }
}

TEST_P(SortingOnDevice, GradientReachesWhatWasPickedAndAccumulates) {
  Tensor x = from_vector<double>({3, 1, 2, 5}).requires_grad_();
  for (int round = 1; round <= 2; ++round) {
    topk(x, 2).first.backward(from_vector<double>({10, 20}));
    EXPECT_EQ(x.grad().to_vector<double>(), (std::vector<double>{20.0 * round, 0, 0, 10.0 * round}));
  }
  EXPECT_FALSE(topk(x, 2).second.requires_grad());
}

TEST(Sorting, ThreadsDoNotChangeTheResult) {
  const Tensor x = randint(0, 50, {200, 300}).to(DType::f32);
  set_num_threads(1);
  const auto sorted = sort(x, 0).second.to_vector<std::int64_t>();
  const auto best = topk(x, 7, 1).second.to_vector<std::int64_t>();
  set_num_threads(2);
  EXPECT_EQ(sort(x, 0).second.to_vector<std::int64_t>(), sorted);
  EXPECT_EQ(topk(x, 7, 1).second.to_vector<std::int64_t>(), best);
  set_num_threads(0);
}

TEST_P(SortingOnDevice, NothingToSort) {
  EXPECT_EQ(sort(zeros({0})).first.shape(), Shape({0}));
  EXPECT_EQ(sort(zeros({3, 0}), 0).second.shape(), Shape({3, 0}));
  Tensor x = ones({2, 3}, {.requires_grad = true});
  const Tensor none = topk(x, 0).first;
  EXPECT_EQ(none.shape(), Shape({2, 0}));
  none.backward(ones_like(none));
  EXPECT_EQ(x.grad().to_doubles(), std::vector<double>(6, 0));
}

TEST(Sorting, Errors) {
  EXPECT_EQ(message_of<ShapeError>([] {
              static_cast<void>(topk(zeros({2, 3}), 4));
            }),
            "[topk] 4 elements were asked for along dim 1 of shape [2, 3]");
  EXPECT_EQ(message_of<ShapeError>([] { static_cast<void>(sort(zeros({}))); }),
            "[sort] takes a tensor with at least one dim; reshape it to [1] first");
  EXPECT_THROW(static_cast<void>(sort(zeros({2}), 1)), IndexError);
}

}  // namespace
}  // namespace trinix::testing
