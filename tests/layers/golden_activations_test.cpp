// Activations, gated units, rotary embedding and ALiBi against PyTorch.
#include "support/compare.h"
#include "support/golden.h"

#include <functional>
#include <gtest/gtest.h>

#include <trinix/autograd/ops.h>
#include <trinix/layers/activation.h>
#include <trinix/layers/alibi.h>
#include <trinix/layers/glu.h>
#include <trinix/layers/rope.h>

namespace trinix::nn {
namespace {

using trinix::testing::golden;

using trinix::testing::largest_difference;

TEST(ActivationGolden, ValuesAndGradients) {
  const StateDict values = golden("activations");
  const std::pair<const char*, std::function<Tensor(const Tensor&)>> functions[] = {
      {"relu", [](const Tensor& x) { return ReLU().forward(x); }},
      {"gelu_erf", [](const Tensor& x) { return GELU().forward(x); }},
      {"gelu_tanh", [](const Tensor& x) { return GELU(Gelu::tanh).forward(x); }},
      {"silu", [](const Tensor& x) { return SiLU().forward(x); }},
      {"sigmoid", [](const Tensor& x) { return Sigmoid().forward(x); }},
      {"tanh", [](const Tensor& x) { return Tanh().forward(x); }},
      {"softplus", [](const Tensor& x) { return Softplus().forward(x); }},
      {"quick_gelu", [](const Tensor& x) { return QuickGELU().forward(x); }},
      {"squared_relu", [](const Tensor& x) { return SquaredReLU().forward(x); }},
      {"mish", [](const Tensor& x) { return Mish().forward(x); }},
      {"leaky_relu", [](const Tensor& x) { return LeakyReLU(0.07).forward(x); }},
      {"elu", [](const Tensor& x) { return ELU(1.3).forward(x); }},
  };
  for (const auto& [name, function] : functions) {
    SCOPED_TRACE(name);
    Tensor x = values.at("x").clone().requires_grad_();
    const Tensor y = function(x);
    y.backward(values.at("dy"));
    EXPECT_LT(largest_difference(y, values.at(std::string(name) + ".y")), 1e-12);
    EXPECT_LT(largest_difference(x.grad(), values.at(std::string(name) + ".dx0")), 1e-12);
  }
}

TEST(GluGolden, LayersWithEveryGradient) {
  const StateDict values = golden("activations");
  const GluOptions options{.input_dim = 5, .hidden_dim = 7, .bias = true, .tensor = {DType::f64}};
  const std::pair<const char*, std::shared_ptr<GatedLinearUnit>> layers[] = {
      {"swiglu", std::make_shared<SwiGLU>(options)},
      {"geglu_erf", std::make_shared<GeGLU>(options)},
      {"geglu_tanh", std::make_shared<GeGLU>(options, Gelu::tanh)},
      {"reglu", std::make_shared<ReGLU>(options)},
  };
  for (const auto& [name, layer] : layers) {
    SCOPED_TRACE(name);
    StateDict state;
    state.insert("proj.weight", values.at("glu.weight"));
    state.insert("proj.bias", values.at("glu.bias"));
    layer->load_state_dict(state);
    Tensor x = values.at("glu.input").clone().requires_grad_();
    const Tensor y = layer->forward(x);
    y.backward(values.at("glu.dy"));
    const std::string key = std::string("glu.") + name;
    EXPECT_LT(largest_difference(y, values.at(key + ".y")), 1e-12);
    EXPECT_LT(largest_difference(x.grad(), values.at(key + ".dx0")), 1e-12);
    EXPECT_LT(largest_difference(layer->parameters()[0].grad(), values.at(key + ".dx1")), 1e-12);
    EXPECT_LT(largest_difference(layer->parameters()[1].grad(), values.at(key + ".dx2")), 1e-12);
  }
}

TEST(RopeGolden, EveryScalingInBothLayouts) {
  const StateDict values = golden("rope");
  const std::pair<const char*, RoPEScaling> scalings[] = {{"none", RoPEScaling::none},
                                                          {"linear", RoPEScaling::linear},
                                                          {"dynamic_ntk", RoPEScaling::dynamic_ntk},
                                                          {"yarn", RoPEScaling::yarn},
                                                          {"llama3", RoPEScaling::llama3}};
  for (const auto& [name, scaling] : scalings) {
    for (const RopeLayout layout : {RopeLayout::half, RopeLayout::interleaved}) {
      SCOPED_TRACE(name);
      const RoPE rope({.dim = 16,
                       .max_positions = 256,
                       .layout = layout,
                       .scaling = scaling,
                       .factor = 4,
                       .original_max_positions = 64});
      const Tensor frequencies = from_vector(rope.frequencies(74));
      EXPECT_LT(largest_difference(frequencies, values.at(std::string(name) + ".frequencies")), 1e-15);
      Tensor x = values.at("x").clone().requires_grad_();
      const Tensor y = rope.forward(x, {.first = 70});
      y.backward(values.at("dy"));
      const std::string key = std::string(name) + (layout == RopeLayout::half ? ".half" : ".interleaved");
      EXPECT_LT(largest_difference(y, values.at(key + ".y")), 1e-6);  // the tables are f32
      EXPECT_LT(largest_difference(x.grad(), values.at(key + ".dx0")), 1e-6);
    }
  }
}

TEST(AlibiGolden, SlopesAndBias) {
  const StateDict values = golden("alibi");
  for (const int heads : {1, 2, 3, 8, 12, 20, 25, 32}) {
    const Tensor slopes = alibi_slopes(heads).to(DType::f64);
    EXPECT_LT(largest_difference(slopes / values.at(std::to_string(heads)), ones_like(slopes)), 1e-7) << heads;
  }
  EXPECT_LT(largest_difference(ALiBi(3).bias(5, 7).to(DType::f64), values.at("bias")), 1e-7);
}

}  // namespace
}  // namespace trinix::nn
