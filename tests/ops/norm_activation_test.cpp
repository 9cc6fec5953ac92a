// rms_norm_activation: values and gradients for every activation, and what the kernels must not do with odd values.
#include "naive_norm.h"

#include <gtest/gtest.h>
#include <limits>

namespace trinix::testing {
namespace {

constexpr double kSmallEps = 1e-6;

double naive_activation(Activation a, double z) {
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  switch (a) {
    case Activation::relu:
      return std::max(z, 0.0);
    case Activation::gelu_erf:
      return 0.5 * z * (1 + std::erf(z / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
    case Activation::silu:
      return z * sigmoid(z);
    case Activation::sigmoid:
      return sigmoid(z);
    case Activation::tanh:
      return std::tanh(z);
    case Activation::softplus:
      return std::log1p(std::exp(z));
    case Activation::quick_gelu:
      return z * sigmoid(1.702 * z);
    case Activation::squared_relu:
      return z > 0 ? z * z : 0;
    case Activation::mish:
      break;
  }
  return z * std::tanh(std::log1p(std::exp(z)));
}

OpCase activation_case(Activation a, std::vector<Shape> inputs, bool weight, bool bias) {
  return {.name = "rms_norm_activation_" + std::to_string(static_cast<int>(a)),
          .inputs = std::move(inputs),
          .function =
              [=](const std::vector<Tensor>& x, KernelChoice kernel) {
                return rms_norm_activation(x[0], weight ? x[1] : Tensor(), bias ? x.back() : Tensor(), a, kSmallEps,
                                           kernel);
              },
          .reference =
              [=](const std::vector<Array>& x) {
                Array y =
                    naive_norm(x[0], Centre::zero, weight ? &x[1] : nullptr, bias ? &x.back() : nullptr, kSmallEps);
                for (double& z : y.values) z = naive_activation(a, z);
                return y;
              },
          .has_kernels = true,
          .layouts = {Layout::contiguous}};
}

constexpr Activation kAll[] = {
    Activation::relu, Activation::gelu_erf, Activation::gelu_tanh,  Activation::silu,         Activation::sigmoid,
    Activation::tanh, Activation::softplus, Activation::quick_gelu, Activation::squared_relu, Activation::mish};

std::vector<OpCase> norm_activation_cases() {
  std::vector<OpCase> list;
  for (const Activation a : kAll) list.push_back(activation_case(a, {{5, 2, 19}, {19}, {19}}, true, true));
  list.push_back(activation_case(Activation::silu, {{5, 24}, {24}}, true, false));
  list.push_back(activation_case(Activation::silu, {{5, 24}}, false, false));
  list.back().layouts = without_repeats();
  // Several stages per row, and several rows per thread.
  for (const auto& [rows, columns] : {std::pair{3, 1304}, {2, 2501}, {2011, 40}}) {
    list.push_back(activation_case(Activation::gelu_tanh, {{rows, columns}, {columns}, {columns}}, true, true));
    list.back().dtypes = {DType::f32, DType::bf16, DType::f16};
  }
  return list;
}

class NormActivation : public ::testing::TestWithParam<OpCase> {};
TEST_P(NormActivation, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, NormActivation, ::testing::ValuesIn(norm_activation_cases()),
                         [](const auto& info) { return info.param.name + "_" + std::to_string(info.index); });

class NormActivationOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, NormActivationOnDevice, ::testing::ValuesIn(test_devices()), device_name);

/// A weight of 1e4 drives every activation into saturation, on both sides.
TEST_P(NormActivationOnDevice, SaturatesToItsLimitsWithoutNan) {
  for (const Activation a : kAll) {
    Tensor x = from_vector<float>({3, -3, 3, -3}, {1, 4}).requires_grad_();
    Tensor weight = full({4}, 1e4F).requires_grad_();
    const Tensor y = rms_norm_activation(x, weight, {}, a, kSmallEps);
    sum(y).backward();
    const std::vector<double> values = y.to_doubles();
    for (std::size_t i = 0; i < 4; ++i) {
      const double z = i % 2 == 0 ? 1e4 : -1e4;
      const double expected =
          a == Activation::softplus || a == Activation::mish ? std::max(z, 0.0) : naive_activation(a, z);
      EXPECT_NEAR(values[i], expected, 1e-5 * std::abs(expected) + 1e-30) << static_cast<int>(a);
    }
    for (const double g : x.grad().to_doubles()) EXPECT_TRUE(std::isfinite(g)) << static_cast<int>(a);
    for (const double g : weight.grad().to_doubles()) EXPECT_TRUE(std::isfinite(g)) << static_cast<int>(a);
  }
}

TEST_P(NormActivationOnDevice, KeepsNothingBetweenNormAndActivation) {
  const Tensor x = from_vector<double>({1, -2, 3, 0.5}, {1, 4});
  const Tensor w = from_vector<double>({1, 2, 3, 4}, {4});
  const Tensor apart = silu(rms_norm(x, w, {}, kSmallEps));
  EXPECT_LT(max(abs(rms_norm_activation(x, w, {}, Activation::silu, kSmallEps) - apart)).item<double>(), 1e-12);
}

}  // namespace
}  // namespace trinix::testing
