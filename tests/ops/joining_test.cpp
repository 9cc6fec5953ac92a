#include "naive.h"

#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

Array naive_cat(const std::vector<Array>& in, int dim) {
  Shape shape = in[0].shape;
  shape[dim] = 0;
  for (const Array& a : in) shape[dim] += a.shape[dim];
  Array out{shape, std::vector<double>(static_cast<std::size_t>(numel(shape)))};
  for_each_index(shape, [&](const Dims& index) {
    Dims local = index;
    for (const Array& a : in) {
      if (local[dim] < a.shape[dim]) {
        out[flat(shape, index)] = a[flat(a.shape, local)];
        return;
      }
      local[dim] -= a.shape[dim];
    }
  });
  return out;
}

Array naive_narrow(const Array& in, int dim, std::int64_t start, std::int64_t length) {
  Shape shape = in.shape;
  shape[dim] = length;
  Array out{shape, std::vector<double>(static_cast<std::size_t>(numel(shape)))};
  for_each_index(shape, [&](const Dims& index) {
    Dims from = index;
    from[dim] += start;
    out[flat(shape, index)] = in[flat(in.shape, from)];
  });
  return out;
}

std::vector<OpCase> joining_cases() {
  std::vector<OpCase> list;
  for (const int dim : {0, 1, 2}) {
    std::vector<Shape> shapes(3, {3, 4, 5});
    shapes[1][dim] = 7;
    shapes[2][dim] = 1;
    list.push_back({.name = "cat" + std::to_string(dim),
                    .inputs = shapes,
                    .function = [dim](const auto& x, KernelChoice) { return cat(x, dim - 3); },
                    .reference = [dim](const auto& in) { return naive_cat(in, dim); }});
    list.push_back({.name = "split" + std::to_string(dim),
                    .inputs = {{5, 6, 7}},
                    .function =
                        [dim](const auto& x, KernelChoice) {
                          const auto parts = split(x[0], 2, dim);
                          return cat({parts[2], parts[0] * parts[0], parts[0]}, dim);  // the second is not used
                        },
                    .reference =
                        [dim](const auto& in) {
                          Array first = naive_narrow(in[0], dim, 0, 2);
                          Array squared = first;
                          for (double& v : squared.values) v *= v;
                          const std::int64_t last = std::min<std::int64_t>(2, in[0].size(dim) - 4);
                          return naive_cat({naive_narrow(in[0], dim, 4, last), squared, first}, dim);
                        }});
  }
  for (const int dim : {0, 1, 2}) {
    list.push_back({.name = "stack" + std::to_string(dim),
                    .inputs = {{4, 5}, {4, 5}, {4, 5}},
                    .function = [dim](const auto& x, KernelChoice) { return stack(x, dim); },
                    .reference =
                        [dim](auto in) {
                          for (Array& a : in) a.shape.insert(dim, 1);
                          return naive_cat(in, dim);
                        }});
  }
  return list;
}

class Joining : public ::testing::TestWithParam<OpCase> {};
TEST_P(Joining, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, Joining, ::testing::ValuesIn(joining_cases()),
                         [](const auto& info) { return info.param.name; });

class JoiningOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, JoiningOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(JoiningOnDevice, EveryDtypeAndPromotion) {
  for (const DType dtype : {DType::boolean, DType::u8, DType::i32, DType::i64}) {
    const Tensor a = from_vector<double>({0, 1}).to(dtype);
    EXPECT_EQ(cat({a, a}).dtype(), dtype);
    EXPECT_EQ(cat({a, a}).to_doubles(), (std::vector<double>{0, 1, 0, 1}));
  }
  Tensor x = from_vector<float>({1, 2}).requires_grad_();
  const Tensor y = cat({x, from_vector<double>({3}), from_vector<std::int64_t>({4})});
  EXPECT_EQ(y.dtype(), DType::f64);
  EXPECT_EQ(y.to_doubles(), (std::vector<double>{1, 2, 3, 4}));
  y.backward(ones_like(y));
  EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{1, 1}));
}

TEST_P(JoiningOnDevice, TheSameTensorTwice) {
  Tensor x = from_vector<double>({1, 2}).requires_grad_();
  const Tensor y = cat({x, x});
  y.backward(from_vector<double>({1, 2, 3, 4}));
  EXPECT_EQ(x.grad().to_vector<double>(), (std::vector<double>{4, 6}));
}

TEST_P(JoiningOnDevice, EmptyPieces) {
  EXPECT_EQ(cat({zeros({0, 3}), ones({2, 3})}).shape(), Shape({2, 3}));
  EXPECT_EQ(cat({zeros({2, 0}), zeros({2, 0})}, 1).shape(), Shape({2, 0}));
  EXPECT_EQ(split(zeros({0, 3}), 2).size(), 1U);
  EXPECT_EQ(split(ones({4}), std::vector<std::int64_t>{4, 0})[1].shape(), Shape({0}));
}

TEST_P(JoiningOnDevice, SplitGivesViews) {
  const Tensor x = zeros({4, 6});
  const auto parts = split(x, std::vector<std::int64_t>{1, 5}, 1);
  add_(parts[1], 1.0);
  EXPECT_EQ(x.to_vector<float>(),
            (std::vector<float>{0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1}));
  EXPECT_EQ(chunk(zeros({7}), 3).size(), 3U);
  EXPECT_EQ(chunk(zeros({7}), 3)[2].shape(), Shape({1}));
  EXPECT_EQ(chunk(zeros({4}), 3).size(), 2U);
  EXPECT_EQ(chunk(zeros({2}), 5).size(), 2U);
}

TEST_P(JoiningOnDevice, SplitAddsIntoAnExistingGradient) {
  Tensor x = zeros({4}, {DType::f64}).requires_grad_();
  for (int round = 1; round <= 2; ++round) {
    const auto parts = split(x, 2);
    parts[1].backward(from_vector<double>({1, 2}));
    EXPECT_EQ(x.grad().to_vector<double>(), (std::vector<double>{0, 0, 1.0 * round, 2.0 * round}));
  }
}

TEST(Joining, OutdatedSplitIsRefused) {
  Tensor x = ones({4}).requires_grad_();
  const Tensor y = x * 1.0;
  const auto parts = split(y, 2);
  mul_(y, 2.0);
  EXPECT_THROW(static_cast<void>(parts[0] * 3.0), AutogradError);
}

TEST(Joining, Errors) {
  EXPECT_EQ(message_of([] { static_cast<void>(cat({})); }), "[cat] takes at least one tensor, got none");
  EXPECT_EQ(message_of([] {
              static_cast<void>(cat({zeros({2, 3}), zeros({2, 4})}));
            }),
            "[cat] tensor 1 has shape [2, 4], tensor 0 has [2, 3]; along dim 0 they may differ, elsewhere not");
  EXPECT_EQ(message_of([] {
              static_cast<void>(cat({zeros({2}), zeros({2, 4})}));
            }),
            "[cat] tensor 1 has shape [2, 4], tensor 0 has [2]; along dim 0 they may differ, elsewhere not");
  EXPECT_EQ(message_of([] {
              static_cast<void>(cat({zeros({}), zeros({})}));
            }),
            "[cat] tensors without dims cannot be joined along one; use stack()");
  EXPECT_EQ(message_of([] {
              static_cast<void>(stack({zeros({2}), zeros({3})}));
            }),
            "[stack] tensor 1 has shape [3], tensor 0 has [2]; all shapes must be equal");
  EXPECT_EQ(message_of([] { static_cast<void>(split(zeros({5}), 0)); }),
            "[split] parts of 0 elements were asked for; at least 1 is needed");
  EXPECT_EQ(message_of([] {
              static_cast<void>(split(zeros({5}), std::vector<std::int64_t>{2, 2}));
            }),
            "[split] sizes [2, 2] do not add up to 5, the size of dim 0 of shape [5]");
  EXPECT_EQ(message_of([] {
              static_cast<void>(split(zeros({5}), std::vector<std::int64_t>{7, -2}));
            }),
            "[split] sizes [7, -2] do not add up to 5, the size of dim 0 of shape [5]");
  EXPECT_EQ(message_of([] { static_cast<void>(chunk(zeros({5}), 0)); }),
            "[chunk] 0 parts were asked for; at least 1 is needed");
  EXPECT_THROW(static_cast<void>(cat({zeros({2})}, 1)), IndexError);
}

}  // namespace
}  // namespace trinix::testing
