#include "op_case.h"

#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

/// x w^T + b of flat rows.
std::vector<double> affine(const std::vector<double>& x, const Array& w, const std::vector<double>& bias) {
  const auto in = static_cast<std::size_t>(w.size(1));
  const auto out = static_cast<std::size_t>(w.size(0));
  std::vector<double> y;
  for (std::size_t row = 0; row < x.size() / in; ++row) {
    for (std::size_t o = 0; o < out; ++o) {
      double sum = bias.empty() ? 0 : bias[o];
      for (std::size_t i = 0; i < in; ++i) sum += x[row * in + i] * w[o * in + i];
      y.push_back(sum);
    }
  }
  return y;
}

double gelu_tanh(double v) {
  return 0.5 * v * (1 + std::tanh(std::sqrt(2 / 3.141592653589793238462643) * (v + 0.044715 * v * v * v)));
}

/// Inputs in the order x, weight, next weight, and the biases where there are any.
Array naive_mlp(const std::vector<Array>& in) {
  const bool biased = in.size() == 5;
  std::vector<double> hidden = affine(in[0].values, in[1], biased ? in[3].values : std::vector<double>());
  for (double& v : hidden) v = gelu_tanh(v);
  Array y{in[0].shape, affine(hidden, in[2], biased ? in[4].values : std::vector<double>())};
  y.shape[y.shape.size() - 1] = in[2].size(0);
  return y;
}

Tensor mlp(const std::vector<Tensor>& x, KernelChoice kernel) {
  const bool biased = x.size() == 5;
  return gelu_mlp(x[0], x[1], biased ? x[3] : Tensor(), x[2], biased ? x[4] : Tensor(), kernel);
}

/// Gradients of a repeated 16-bit operand nearly cancel here: their relative error says nothing.
const std::vector<Layout> kDense = {Layout::contiguous, Layout::transposed, Layout::sliced};

OpCase mlp_case(const char* name, const std::vector<Shape>& inputs) {
  return {.name = name,
          .inputs = inputs,
          .function = mlp,
          .reference = naive_mlp,
          .low = -1,
          .high = 1,
          .has_kernels = true,
          .tolerance = {1e-12, 3e-6, 1.5e-2, 3e-3},
          .layouts = kDense};
}

OpCase repeated_case() {
  OpCase c = mlp_case("mlp_repeated", {{6, 8}, {24, 8}, {8, 24}});
  c.dtypes = {DType::f64, DType::f32};
  c.layouts = {Layout::broadcast};
  return c;
}

std::vector<OpCase> linear_gelu_cases() {
  return {mlp_case("mlp", {{3, 2, 5}, {16, 5}, {7, 16}, {16}, {7}}),
          mlp_case("mlp_without_bias", {{6, 8}, {24, 8}, {8, 24}}),
          mlp_case("mlp_odd", {{5, 7}, {9, 7}, {4, 9}, {9}, {4}}), repeated_case()};
}

class GeluMlp : public ::testing::TestWithParam<OpCase> {};
TEST_P(GeluMlp, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, GeluMlp, ::testing::ValuesIn(linear_gelu_cases()),
                         [](const auto& info) { return info.param.name; });

/// Sets a variable of the environment for as long as it lives.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Environment() { unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
};

/// Products this small are not worth measuring, so the epilogues would not run by themselves.
TEST(GeluMlpEpilogues, MatchTheReferenceOnCuda) {
  if (!is_available(Device::cuda())) GTEST_SKIP() << "the epilogues are cuBLASLt's, and there is no CUDA device";
  const Environment always("TRINIX_MATMUL_EPILOGUES", "always");
  for (OpCase c : {mlp_case("mlp_epilogue", {{8, 4, 32}, {64, 32}, {32, 64}, {64}, {32}}),
                   mlp_case("mlp_epilogue_without_bias", {{16, 32}, {64, 32}, {32, 64}})}) {
    c.dtypes = {DType::bf16, DType::f16};
    run_op_case(c);
  }
}

/// The gradient of a bias in the pass of the weight's product.
TEST(GeluMlpEpilogues, LinearGradientsMatchOnCuda) {
  if (!is_available(Device::cuda())) GTEST_SKIP() << "the epilogues are cuBLASLt's, and there is no CUDA device";
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const auto gradients = [&](const char* setting) {
      const Environment environment("TRINIX_MATMUL_EPILOGUES", setting);
      const TensorOptions options{dtype, Device::cuda()};
      const auto leaf = [&](const Shape& shape, std::uint64_t seed) {
        const auto values = random_values(static_cast<std::size_t>(numel(shape)), seed, -1, 1);
        return from_vector(values, shape).to(dtype).to(options.device).detach().requires_grad_();
      };
      const Tensor x = leaf({64, 32}, 1), w = leaf({48, 32}, 2), b = leaf({48}, 3);
      const Tensor direction = leaf({64, 48}, 4).detach();
      linear(x, w, b).backward(direction);
      linear(x, w, b).backward(direction);  // the second is added
      return std::vector{w.grad().to_doubles(), b.grad().to_doubles(), x.grad().to_doubles()};
    };
    const auto fused = gradients("always");
    const auto separate = gradients("never");
    const double tolerance = dtype == DType::bf16 ? 1e-2 : 2e-3;
    for (std::size_t i = 0; i < fused.size(); ++i) EXPECT_LE(relative_error(fused[i], separate[i]), tolerance) << i;
  }
}

class GeluMlpOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, GeluMlpOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(GeluMlpOnDevice, GivesOnlyTheGradientsThatAreWantedAndAddsThem) {
  const auto make = [&](const Shape& shape, std::uint64_t seed) {
    return make_tensor(random_values(static_cast<std::size_t>(numel(shape)), seed, -1, 1), shape, DType::f32,
                       Layout::contiguous, device());
  };
  const Tensor x = make({4, 8}, 1), w = make({16, 8}, 2), next = make({8, 16}, 4);
  const Tensor b = make({16}, 3).requires_grad_();
  const auto composed = [&](const Tensor& bias) { return sum(linear(gelu(linear(x, w, bias), Gelu::tanh), next)); };
  const Tensor other = b.detach().clone().requires_grad_();
  for (int i = 0; i < 2; ++i) {
    sum(gelu_mlp(x, w, b, next, {})).backward();
    composed(other).backward();
    EXPECT_LE(relative_error(b.grad().to_doubles(), other.grad().to_doubles()), 1e-6) << i;
  }
  EXPECT_FALSE(w.grad().defined());
}

TEST_P(GeluMlpOnDevice, NoRowsGiveAnEmptyResultAndZeroGradients) {
  const Tensor w = ones({16, 8}).requires_grad_(), b = ones({16}).requires_grad_(),
               next = ones({8, 16}).requires_grad_();
  const Tensor y = gelu_mlp(zeros({0, 8}), w, b, next, {});
  EXPECT_EQ(y.shape(), (Shape{0, 8}));
  sum(y).backward();
  EXPECT_EQ(b.grad().to_vector<float>(), std::vector<float>(16, 0.0F));
}

/// f32 products on a card: exact to f32 unless TF32 was asked for, and then with the error of 10 bits.
TEST(Tf32, IsUsedWhenAskedForOnly) {
  EXPECT_FALSE(is_tf32_allowed());
  if (!is_available(Device::cuda())) GTEST_SKIP() << "TF32 is CUDA's, and there is no CUDA device";
  const auto make = [](const Shape& shape, std::uint64_t seed) {
    return from_vector(random_values(static_cast<std::size_t>(numel(shape)), seed, -1, 1), shape).to(DType::f32);
  };
  const Tensor a = make({256, 512}, 1), b = make({512, 128}, 2);
  const std::vector<double> exact = matmul(a.to(DType::f64), b.to(DType::f64)).to_doubles();
  const auto error = [&] {
    return relative_error(matmul(a.to(Device::cuda()), b.to(Device::cuda())).to_doubles(), exact);
  };
  EXPECT_LE(error(), 1e-6);
  allow_tf32(true);
  const double rounded = error();
  allow_tf32(false);
  EXPECT_GE(rounded, 5e-5);
  EXPECT_LE(rounded, 1e-3);
  EXPECT_LE(error(), 1e-6);
}

}  // namespace
}  // namespace trinix::testing
