// Every parameter of every layer gets a gradient, and the right one: by finite differences in f64.
#include <functional>
#include <gtest/gtest.h>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/gradcheck.h>
#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/layers/activation.h>
#include <trinix/layers/attention.h>
#include <trinix/layers/dropout.h>
#include <trinix/layers/embedding.h>
#include <trinix/layers/glu.h>
#include <trinix/layers/gpt.h>
#include <trinix/layers/linear.h>
#include <trinix/layers/norm.h>
#include <trinix/layers/rope.h>
#include <trinix/layers/sequential.h>

namespace trinix::nn {
namespace {

constexpr TensorOptions kF64{DType::f64};

/// A layer, and a call of it that does not depend on earlier calls.
struct Case {
  std::string name;
  std::shared_ptr<Module> module;
  std::vector<Tensor> inputs;  // that require grad
  std::function<Tensor()> call;
};

Generator& generator() {
  static Generator g(5);
  return g;
}

Tensor input(const Shape& shape) {
  Tensor x = randn(shape, kF64, &generator());
  return x.requires_grad_();
}

/// A case for a layer that maps one tensor to one.
template <class L>
Case layer_case(std::string name, const std::shared_ptr<L>& layer, const Shape& shape) {
  const Tensor x = input(shape);
  return {std::move(name), layer, {x}, [layer, x] {
            generator().manual_seed(9);  // the same dropout mask every time
            return layer->forward(x);
          }};
}

/// Values away from the ones and zeros of initialisation, where mistakes hide.
void shake(const Module& module) {
  const NoGrad no_grad;
  for (const Tensor& p : module.parameters()) add_(p, randn(p.shape(), kF64, &generator()) * 0.3);
}

std::vector<Case> cases() {
  Generator* const g = &generator();
  std::vector<Case> list;
  for (const bool bias : {true, false}) {
    const std::string with = bias ? "with bias" : "without bias";
    list.push_back(layer_case(
        "Linear " + with,
        std::make_shared<Linear>(LinearOptions{.in_features = 5, .out_features = 3, .bias = bias, .tensor = kF64}),
        {2, 4, 5}));
    list.push_back(
        layer_case("LayerNorm " + with,
                   std::make_shared<LayerNorm>(LayerNormOptions{.features = 7, .bias = bias, .tensor = kF64}), {3, 7}));
    list.push_back(layer_case("CausalSelfAttention " + with,
                              std::make_shared<CausalSelfAttention>(
                                  CausalSelfAttentionOptions{.width = 6, .heads = 2, .bias = bias, .tensor = kF64}),
                              {2, 5, 6}));
    list.push_back(layer_case("Mlp " + with,
                              std::make_shared<Mlp>(MlpOptions{.width = 4, .hidden = 9, .bias = bias, .tensor = kF64}),
                              {2, 3, 4}));
  }
  list.push_back(layer_case("LayerNorm without parameters",
                            std::make_shared<LayerNorm>(LayerNormOptions{.features = 7, .affine = false}), {3, 7}));
  for (const bool bias : {false, true}) {
    list.push_back(layer_case(bias ? "RMSNorm with bias" : "RMSNorm",
                              std::make_shared<RMSNorm>(RMSNormOptions{.features = 7, .bias = bias, .tensor = kF64}),
                              {3, 7}));
  }
  list.push_back(layer_case("RMSNorm without parameters",
                            std::make_shared<RMSNorm>(RMSNormOptions{.features = 7, .weight = false}), {3, 7}));
  list.push_back(layer_case("CausalSelfAttention with dropout",
                            std::make_shared<CausalSelfAttention>(CausalSelfAttentionOptions{
                                .width = 6, .heads = 3, .dropout = 0.3, .tensor = kF64, .generator = g}),
                            {2, 5, 6}));
  list.push_back(layer_case("Dropout", std::make_shared<Dropout>(DropoutOptions{.p = 0.4, .generator = g}), {4, 9}));
  list.push_back(layer_case("GELU erf", std::make_shared<GELU>(), {4, 9}));
  list.push_back(layer_case("GELU tanh", std::make_shared<GELU>(Gelu::tanh), {4, 9}));
  list.push_back(layer_case("SiLU", std::make_shared<SiLU>(), {4, 9}));
  list.push_back(layer_case("Tanh", std::make_shared<Tanh>(), {4, 9}));
  list.push_back(layer_case("Sigmoid", std::make_shared<Sigmoid>(), {4, 9}));
  list.push_back(layer_case("ReLU", std::make_shared<ReLU>(), {4, 9}));
  list.push_back(layer_case("Softplus", std::make_shared<Softplus>(), {4, 9}));
  list.push_back(layer_case("QuickGELU", std::make_shared<QuickGELU>(), {4, 9}));
  list.push_back(layer_case("SquaredReLU", std::make_shared<SquaredReLU>(), {4, 9}));
  list.push_back(layer_case("Mish", std::make_shared<Mish>(), {4, 9}));
  list.push_back(layer_case("LeakyReLU", std::make_shared<LeakyReLU>(), {4, 9}));
  list.push_back(layer_case("ELU", std::make_shared<ELU>(0.8), {4, 9}));
  for (const bool bias : {true, false}) {
    const GluOptions glu{.input_dim = 4, .hidden_dim = 5, .bias = bias, .tensor = kF64};
    list.push_back(layer_case("SwiGLU", std::make_shared<SwiGLU>(glu), {2, 3, 4}));
    list.push_back(layer_case("GeGLU", std::make_shared<GeGLU>(glu), {2, 3, 4}));
    list.push_back(layer_case("GeGLU tanh", std::make_shared<GeGLU>(glu, Gelu::tanh), {2, 3, 4}));
    list.push_back(layer_case("ReGLU", std::make_shared<ReGLU>(glu), {2, 3, 4}));
  }
  list.push_back(layer_case("RoPE", std::make_shared<RoPE>(RoPEOptions{.dim = 4, .max_positions = 9}), {2, 3, 2, 6}));
  list.push_back(
      layer_case("Sequential",
                 std::make_shared<Sequential>(
                     std::make_shared<Linear>(LinearOptions{.in_features = 5, .out_features = 6, .tensor = kF64}),
                     std::make_shared<Tanh>(),
                     std::make_shared<Linear>(LinearOptions{.in_features = 6, .out_features = 2, .tensor = kF64})),
                 {3, 5}));

  const auto table =
      std::make_shared<Embedding>(EmbeddingOptions{.num_embeddings = 4, .embedding_dim = 3, .tensor = kF64});
  const Tensor indices = from_vector<std::int64_t>({0, 3, 1, 3, 2, 3}, {2, 3});
  list.push_back({"Embedding", table, {}, [table, indices] { return table->forward(indices); }});

  const auto norm = std::make_shared<LayerNorm>(LayerNormOptions{.features = 5, .tensor = kF64});
  const Tensor x = input({3, 5}), delta = input({3, 5});
  list.push_back({"LayerNorm with residual", norm, {x, delta}, [norm, x, delta] {
                    const auto [sum, normed] = norm->add_and_norm(x, delta);
                    return sum * 0.7 + normed;
                  }});

  const auto rms = std::make_shared<RMSNorm>(RMSNormOptions{.features = 5, .tensor = kF64});
  list.push_back({"RMSNorm with a residual branch that is dropped out", rms, {x, delta}, [rms, x, delta, g] {
                    generator().manual_seed(9);
                    const auto [sum, normed] = rms->add_and_norm(x, delta, {.p = 0.3, .generator = g});
                    return sum * 0.7 + normed;
                  }});
  list.push_back(
      {"RMSNorm with an activation", rms, {x}, [rms, x] { return rms->norm_and_activate(x, Activation::silu); }});

  for (const bool tied : {true, false}) {
    const GptConfig config{.vocab_size = 7,
                           .block_size = 4,
                           .layers = 2,
                           .heads = 2,
                           .width = 4,
                           .dropout = tied ? 0.0 : 0.2,
                           .bias = tied,
                           .tied_head = tied,
                           .activation = tied ? Gelu::tanh : Gelu::erf,
                           .tensor = kF64,
                           .generator = g};
    const auto gpt = std::make_shared<Gpt>(config);
    const Tensor ids = from_vector<std::int64_t>({0, 1, 2, 3, 4, 5, 6, 0}, {2, 4});
    const Tensor targets = from_vector<std::int64_t>({1, 2, 3, 4, 5, -100, 0, 1}, {2, 4});
    list.push_back({tied ? "Gpt" : "Gpt with dropout and an untied head", gpt, {}, [gpt, ids, targets] {
                      generator().manual_seed(9);
                      return gpt->loss(ids, targets);
                    }});
  }
  return list;
}

TEST(LayerGradients, EveryParameterAndInputByFiniteDifferences) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    shake(*c.module);
    std::vector<Tensor> inputs = c.inputs;
    for (const Tensor& p : c.module->parameters()) inputs.push_back(p);
    const GradcheckReport report = gradcheck([&](const auto&) { return c.call(); }, inputs);
    EXPECT_TRUE(report.ok) << report.message;
  }
}

TEST(LayerGradients, NoneIsMissingOrZero) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    shake(*c.module);
    const Tensor y = c.call();
    // Weights, so that a sum that a normalisation keeps constant does not hide a gradient.
    sum(y * randn(y.shape(), kF64, &generator())).backward();
    for (const auto& [name, p] : c.module->named_parameters()) {
      ASSERT_TRUE(p.grad().defined()) << name;
      EXPECT_GT(max(abs(p.grad())).item<double>(), 1e-6) << name;
    }
  }
}

/// The same loss in f32 has the gradient of the f64 run, to rounding.
TEST(LayerGradients, SinglePrecisionAgreesWithDouble) {
  const GptConfig config{.vocab_size = 19, .block_size = 16, .layers = 2, .heads = 2, .width = 16, .tensor = kF64};
  Gpt wide(config);
  shake(wide);
  GptConfig narrow_config = config;
  narrow_config.tensor = {DType::f32};
  Gpt narrow(narrow_config);
  narrow.load_state_dict(wide.state_dict());
  wide.load_state_dict(narrow.state_dict());  // both hold values that f32 can hold
  const Tensor ids = randint(0, 19, {3, 16}, {DType::i64}, &generator());
  const Tensor targets = randint(0, 19, {3, 16}, {DType::i64}, &generator());
  const Tensor a = wide.loss(ids, targets), b = narrow.loss(ids, targets);
  EXPECT_NEAR(a.item<double>(), b.item<float>(), 1e-5);
  a.backward();
  b.backward();
  const auto wide_parameters = wide.named_parameters(), narrow_parameters = narrow.named_parameters();
  ASSERT_EQ(wide_parameters.size(), narrow_parameters.size());
  for (std::size_t i = 0; i < wide_parameters.size(); ++i) {
    const Tensor exact = wide_parameters[i].tensor.grad(), got = narrow_parameters[i].tensor.grad();
    const double scale = max(abs(exact)).item<double>();
    EXPECT_LT(max(abs(got - exact)).item<double>(), 2e-5 * scale) << wide_parameters[i].name;
  }
}

}  // namespace
}  // namespace trinix::nn
