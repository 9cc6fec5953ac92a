#include "op_case.h"

#include <cmath>
#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

/// Applies f to two arrays of equal shape, or the second repeated over leading dims.
template <class F>
auto elementwise(F f) {
  return [f](const std::vector<Array>& in) {
    Array out = in[0];
    for (std::size_t i = 0; i < out.values.size(); ++i) out[i] = f(in[0][i], in[1][i % in[1].values.size()]);
    return out;
  };
}

std::vector<OpCase> arithmetic_cases() {
  const std::vector<Shape> equal = {{5, 7, 3}, {5, 7, 3}};
  const std::vector<Shape> broadcast = {{4, 33}, {33}};
  std::vector<OpCase> list;
  for (const auto& shapes : {equal, broadcast}) {
    list.push_back({.name = "add",
                    .inputs = shapes,
                    .function = [](const auto& x, KernelChoice) { return x[0] + x[1]; },
                    .reference = elementwise([](double a, double b) { return a + b; })});
    list.push_back({.name = "sub",
                    .inputs = shapes,
                    .function = [](const auto& x, KernelChoice) { return x[0] - x[1]; },
                    .reference = elementwise([](double a, double b) { return a - b; })});
    list.push_back({.name = "mul",
                    .inputs = shapes,
                    .function = [](const auto& x, KernelChoice) { return x[0] * x[1]; },
                    .reference = elementwise([](double a, double b) { return a * b; })});
    list.push_back({.name = "div",
                    .inputs = shapes,
                    .function = [](const auto& x, KernelChoice) { return x[0] / x[1]; },
                    .reference = elementwise([](double a, double b) { return a / b; }),
                    .low = 0.5,
                    .high = 3});
    list.push_back({.name = "pow",
                    .inputs = shapes,
                    .function = [](const auto& x, KernelChoice) { return pow(x[0], x[1]); },
                    .reference = elementwise([](double a, double b) { return std::pow(a, b); }),
                    .low = 0.5,
                    .high = 3});
    list.push_back({.name = "maximum",
                    .inputs = shapes,
                    .function = [](const auto& x, KernelChoice) { return maximum(x[0], x[1]); },
                    .reference = elementwise([](double a, double b) { return std::max(a, b); })});
    list.push_back({.name = "minimum",
                    .inputs = shapes,
                    .function = [](const auto& x, KernelChoice) { return minimum(x[0], x[1]); },
                    .reference = elementwise([](double a, double b) { return std::min(a, b); })});
  }
  return list;
}

class Arithmetic : public ::testing::TestWithParam<OpCase> {};
TEST_P(Arithmetic, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, Arithmetic, ::testing::ValuesIn(arithmetic_cases()),
                         [](const auto& info) { return info.param.name + "_" + std::to_string(info.index); });

class ArithmeticOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, ArithmeticOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(ArithmeticOnDevice, TiedMaximumSharesTheGradient) {
  Tensor a = from_vector<double>({1, 2, 3}).requires_grad_();
  Tensor b = from_vector<double>({1, 5, 0}).requires_grad_();
  sum(maximum(a, b)).backward();
  EXPECT_EQ(a.grad().to_vector<double>(), (std::vector<double>{0.5, 0, 1}));
  EXPECT_EQ(b.grad().to_vector<double>(), (std::vector<double>{0.5, 1, 0}));
}

TEST_P(ArithmeticOnDevice, MixedDtypesPromoteAndTheGradientComesBackInItsOwn) {
  Tensor a = from_vector<float>({1, 2}).requires_grad_();
  Tensor b = from_vector<double>({3, 4}).requires_grad_();
  const Tensor c = a * b;
  EXPECT_EQ(c.dtype(), DType::f64);
  sum(c).backward();
  EXPECT_EQ(a.grad().dtype(), DType::f32);
  EXPECT_EQ(a.grad().to_vector<float>(), (std::vector<float>{3, 4}));
  EXPECT_EQ(b.grad().to_vector<double>(), (std::vector<double>{1, 2}));
}

TEST_P(ArithmeticOnDevice, IntegersWrapInsteadOfInvokingUndefinedBehaviour) {
  const Tensor a = from_vector<std::int32_t>({2147483647});
  EXPECT_EQ((a + a).to_vector<std::int32_t>(), std::vector<std::int32_t>{-2});
}

TEST(Arithmetic, ShapesThatDoNotBroadcastAreNamed) {
  try {
    static_cast<void>(zeros({2, 3}) + zeros({4, 3}));
    FAIL() << "no exception";
  } catch (const ShapeError& e) {
    EXPECT_EQ(
        std::string(e.what()),
        "[add] shapes [2, 3] and [4, 3] do not broadcast: dimension 0 is 2 in one and 4 in the other; they must be "
        "equal or 1");
  }
}

}  // namespace
}  // namespace trinix::testing
