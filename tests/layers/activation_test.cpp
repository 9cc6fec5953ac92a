// Activations and gated units as layers.
#include "support/errors.h"

#include <gtest/gtest.h>

#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/layers/activation.h>
#include <trinix/layers/glu.h>

namespace trinix::nn {
namespace {

using trinix::testing::message_of;

TEST(GluLayers, ProjectAndGateInTheStatedOrder) {
  const Tensor x = randn({3, 4}, {DType::f64});
  for (const GluOrder order : {GluOrder::gate_first, GluOrder::value_first}) {
    const SwiGLU layer({.input_dim = 4, .hidden_dim = 5, .bias = true, .order = order, .tensor = {DType::f64}});
    const auto state = layer.named_parameters();
    ASSERT_EQ(state.size(), 2U);
    EXPECT_EQ(state[0].name, "proj.weight");
    EXPECT_EQ(state[0].tensor.shape(), (Shape{10, 4}));
    EXPECT_EQ(state[1].name, "proj.bias");
    const Tensor both = linear(x, state[0].tensor, state[1].tensor);
    const Tensor first = both.narrow(-1, 0, 5), second = both.narrow(-1, 5, 5);
    const Tensor expected = order == GluOrder::gate_first ? silu(first) * second : first * silu(second);
    EXPECT_LT(max(abs(layer.forward(x) - expected)).item<double>(), 1e-14);
  }
}

TEST(GluLayers, HaveTheirOwnActivation) {
  const Tensor x = randn({2, 3}, {DType::f64});
  const GluOptions options{.input_dim = 3, .hidden_dim = 4, .tensor = {DType::f64}};
  const auto expect = [&](const GatedLinearUnit& layer, auto activation) {
    EXPECT_EQ(layer.parameters().size(), 1U);  // no bias unless asked for
    const Tensor both = layer.projection().forward(x);
    const Tensor expected = activation(both.narrow(-1, 0, 4)) * both.narrow(-1, 4, 4);
    EXPECT_LT(max(abs(layer.forward(x) - expected)).template item<double>(), 1e-14);
  };
  expect(SwiGLU(options), [](const Tensor& t) { return silu(t); });
  expect(GeGLU(options), [](const Tensor& t) { return gelu(t); });
  expect(GeGLU(options, Gelu::tanh), [](const Tensor& t) { return gelu(t, Gelu::tanh); });
  expect(ReGLU(options), [](const Tensor& t) { return relu(t); });
}

TEST(GluLayers, RefuseSizesThatAreNotPositive) {
  EXPECT_EQ(message_of<ConfigError>([] { const SwiGLU layer({.input_dim = 3}); }),
            "[GatedLinearUnit] input_dim 3 and hidden_dim 0 must be positive");
}

TEST(ActivationLayers, AreTheirFunctions) {
  const Tensor x = randn({5, 7});
  const auto expect = [&](const Layer& layer, const Tensor& y) {
    EXPECT_EQ(layer.forward(x).to_doubles(), y.to_doubles());
  };
  expect(ReLU(), relu(x));
  expect(SiLU(), silu(x));
  expect(Tanh(), tanh(x));
  expect(Sigmoid(), sigmoid(x));
  expect(Softplus(), softplus(x));
  expect(QuickGELU(), quick_gelu(x));
  expect(SquaredReLU(), squared_relu(x));
  expect(Mish(), mish(x));
  expect(GELU(), gelu(x));
  expect(GELU(Gelu::tanh), gelu(x, Gelu::tanh));
  expect(LeakyReLU(0.2), leaky_relu(x, 0.2));
  expect(ELU(0.7), elu(x, 0.7));
}

TEST(ActivationLayers, TakeTheComposedKernelOnRequest) {
  const Tensor x = randn({4, 9});
  const Mish composed(Kernel::reference);
  EXPECT_LT(max(abs(composed.forward(x) - mish(x))).item<float>(), 1e-6);
  EXPECT_EQ(last_kernel("unary"), "cpu");
  static_cast<void>(composed.forward(x));
  EXPECT_THROW(static_cast<void>(Mish(Kernel::flash).forward(x)), KernelUnavailable);
}

}  // namespace
}  // namespace trinix::nn
