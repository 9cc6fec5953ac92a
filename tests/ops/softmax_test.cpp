#include "op_case.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace trinix::testing {
namespace {

/// Straight from the definition; the inputs of the cases are small.
Array softmax_naively(const Array& x, int dim, bool log) {
  Array out = x;
  const auto step = static_cast<std::size_t>(contiguous_strides(x.shape)[dim < 0 ? dim + x.shape.size() : dim]);
  const auto n = static_cast<std::size_t>(x.size(dim));
  std::vector<double> totals(x.values.size());  // of each line, at its first element
  const auto first_of = [&](std::size_t i) { return i - i / step % n * step; };
  for (std::size_t i = 0; i < x.values.size(); ++i) totals[first_of(i)] += std::exp(x[i]);
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    const double total = totals[first_of(i)];
    out[i] = log ? x[i] - std::log(total) : std::exp(x[i]) / total;
  }
  return out;
}

std::vector<OpCase> softmax_cases() {
  std::vector<OpCase> list;
  const std::pair<Shape, int> geometries[] = {{{5, 37}, -1},
                                              {{70, 5}, -1},
                                              {{37, 19}, 0},
                                              {{3, 6, 21}, 1},
                                              {{2, 1100}, 1},
                                              // Rows of every length class of the kernels.
                                              {{19, 1200}, 1},
                                              {{5, 1768}, 1},
                                              {{3, 3072}, 1},
                                              {{2, 6000}, 1},
                                              {{3, 1777}, 1},
                                              {{2, 7001}, 1},
                                              {{2, 9001}, 1}};
  for (const bool log : {false, true}) {
    for (const auto& [shape, dim] : geometries) {
      list.push_back(
          {.name = std::string(log ? "log_softmax" : "softmax") + "_" + std::to_string(list.size()),
           .inputs = {shape},
           .function =
               [log, dim = dim](const auto& x, KernelChoice kernel) {
                 return log ? log_softmax(x[0], dim, kernel) : softmax(x[0], dim, kernel);
               },
           .reference = [log, dim = dim](const std::vector<Array>& in) { return softmax_naively(in[0], dim, log); },
           .low = -4,
           .high = 4,
           .has_kernels = true});
      if (dim == 0) {
        // Along a repeated dim the softmax is constant, and its gradient nothing but rounding.
        list.back().layouts = {Layout::contiguous, Layout::transposed, Layout::sliced};
      }
      if (shape[1] > 1000) list.back().dtypes = {DType::f32, DType::bf16};  // finite differences would take long
      if (shape[1] > 1100) list.back().layouts = {Layout::contiguous, Layout::sliced};
    }
  }
  return list;
}

class SoftmaxOps : public ::testing::TestWithParam<OpCase> {};
TEST_P(SoftmaxOps, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, SoftmaxOps, ::testing::ValuesIn(softmax_cases()),
                         [](const auto& info) { return info.param.name; });

class SoftmaxOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, SoftmaxOnDevice, ::testing::ValuesIn(test_devices()), device_name);

constexpr Kernel kKernels[] = {Kernel::reference, Kernel::fused};

TEST_P(SoftmaxOnDevice, RowsOfMinusInfinityGiveZeros) {
  for (const Kernel kernel : kKernels) {
    SCOPED_TRACE(std::string(name(kernel)));
    const double m = -kInfinity;
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      SCOPED_TRACE(std::string(name(dtype)));
      Tensor x = from_vector<double>({m, m, m, 0, m, 0}, {2, 3}).to(dtype).requires_grad_();
      const Tensor y = softmax(x, -1, kernel);
      EXPECT_EQ(y.to_doubles(), (std::vector<double>{0, 0, 0, 0.5, 0, 0.5}));
      const Tensor direction = from_vector<double>({1, 2, 3, 1, 2, 3}, {2, 3}).to(dtype);
      y.backward(direction);
      EXPECT_EQ(x.grad().to_doubles(), (std::vector<double>{0, 0, 0, -0.5, 0, 0.5}));

      x.zero_grad();
      const Tensor z = log_softmax(x, -1, kernel);
      const auto values = z.to_doubles();
      for (const std::size_t i : {0, 1, 2, 4}) EXPECT_EQ(values[i], m);
      EXPECT_NEAR(values[3], -std::log(2.0), 4e-3);
      z.backward(direction);
      const auto slopes = x.grad().to_doubles();
      const std::vector<double> expected = {0, 0, 0, -2, 2, 0};
      for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(slopes[i], expected[i], i < 3 ? 0 : 2e-2);
    }
  }
}

TEST_P(SoftmaxOnDevice, HugeLogitsNeitherOverflowNorVanish) {
  for (const Kernel kernel : kKernels) {
    SCOPED_TRACE(std::string(name(kernel)));
    const Tensor x = from_vector<float>({1e30F, -1e30F, 1e30F, 3e38F, -3e38F, 0}, {2, 3});
    EXPECT_EQ(softmax(x, 1, kernel).to_doubles(), (std::vector<double>{0.5, 0, 0.5, 1, 0, 0}));
    const auto logs = log_softmax(from_vector<float>({1000, 1000, 999}, {1, 3}), 1, kernel).to_doubles();
    EXPECT_NEAR(logs[0], -std::log(2 + std::exp(-1.0)), 1e-6);
  }
}

TEST_P(SoftmaxOnDevice, NanSpoilsItsOwnRowOnly) {
  for (const Kernel kernel : kKernels) {
    SCOPED_TRACE(std::string(name(kernel)));
    const Tensor x = from_vector<float>({0, NAN, 1, 1}, {2, 2});
    const auto y = softmax(x, 1, kernel).to_doubles();
    EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]));
    EXPECT_EQ(y[2], 0.5);
  }
}

TEST_P(SoftmaxOnDevice, EmptyTensorsPass) {
  for (const Kernel kernel : kKernels) {
    SCOPED_TRACE(std::string(name(kernel)));
    Tensor x = zeros({3, 0}).requires_grad_();
    EXPECT_EQ(softmax(x, 1, kernel).shape(), (Shape{3, 0}));
    EXPECT_EQ(softmax(x, 0, kernel).shape(), (Shape{3, 0}));
    sum(log_softmax(x, 1, kernel)).backward();
    EXPECT_EQ(x.grad().shape(), (Shape{3, 0}));
  }
}

TEST_P(SoftmaxOnDevice, OneElementIsCertain) {
  for (const Kernel kernel : kKernels) {
    SCOPED_TRACE(std::string(name(kernel)));
    Tensor x = from_vector<float>({3, -1e30F, 7}, {3, 1}).requires_grad_();
    EXPECT_EQ(softmax(x, 1, kernel).to_doubles(), (std::vector<double>{1, 1, 1}));
    const Tensor y = log_softmax(x, 1, kernel);
    EXPECT_EQ(y.to_doubles(), (std::vector<double>{0, 0, 0}));
    sum(y).backward();
    EXPECT_EQ(x.grad().to_doubles(), (std::vector<double>{0, 0, 0}));
  }
}

TEST_P(SoftmaxOnDevice, LongRowsAreAccurate) {
  const auto values = random_values(2 * 60001, 11, -10, 10);
  const Tensor x = from_vector(values, {2, 60001}).to(DType::f32);
  const Array expected = softmax_naively({x.shape(), x.to_doubles()}, 1, false);
  EXPECT_LT(relative_error(softmax(x, 1).to_doubles(), expected.values), 2e-7);
  EXPECT_LT(relative_error(softmax(x.transpose(0, 1), 0).transpose(0, 1).to_doubles(), expected.values), 2e-7);
}

TEST(Softmax, ErrorsNameTheOp) {
  try {
    static_cast<void>(softmax(arange(3), 0));
    FAIL() << "no exception";
  } catch (const DtypeError& e) {
    EXPECT_EQ(std::string(e.what()),
              "[softmax] takes floating-point tensors, got i64 of shape [3]; convert it with to()");
  }
  try {
    static_cast<void>(log_softmax(zeros({2, 3}), 2));
    FAIL() << "no exception";
  } catch (const IndexError& e) {
    EXPECT_EQ(std::string(e.what()), "[log_softmax] dim 2 is out of range for a tensor of rank 2: expected -2 to 1");
  }
}

}  // namespace
}  // namespace trinix::testing
