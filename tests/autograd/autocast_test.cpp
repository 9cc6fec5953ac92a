// Mixed precision by scope: which op runs in which type, where casts are made, and what becomes of gradients.
#include "support/errors.h"
#include "support/on_device.h"

#include <functional>
#include <thread>

#include <trinix/autograd/autocast.h>
#include <trinix/core/error.h>

namespace trinix {
namespace {

using testing::message_of;

class AutocastOnDevice : public trinix::testing::OnDevice {
 protected:
  static Tensor random(const Shape& shape, DType dtype = DType::f32, std::uint64_t seed = 1) {
    Generator generator(seed);
    return (trinix::rand(shape, {}, &generator) - 0.5).to(dtype).to(device());
  }
  static Tensor leaf(const Shape& shape, DType dtype = DType::f32, std::uint64_t seed = 1) {
    return random(shape, dtype, seed).requires_grad_();
  }
  static void expect_same(const Tensor& a, const Tensor& b, const std::string& what) {
    EXPECT_EQ(a.dtype(), b.dtype()) << what;
    EXPECT_EQ(a.to_doubles(), b.to_doubles()) << what;
  }
};

using Op = std::function<Tensor(const std::vector<Tensor>&)>;

TEST_P(AutocastOnDevice, ProductsRunInTheLowTypeAndGradientsArriveInTheirOwn) {
  const std::vector<std::pair<Op, std::vector<Shape>>> cases = {
      {[](const auto& in) { return matmul(in[0], in[1]); }, {{5, 8}, {8, 3}}},
      {[](const auto& in) { return linear(in[0], in[1], in[2]); }, {{2, 5, 8}, {3, 8}, {3}}},
      {[](const auto& in) { return scaled_dot_product_attention(in[0], in[1], in[2], {.causal = true}); },
       {{1, 6, 2, 8}, {1, 6, 2, 8}, {1, 6, 2, 8}}},
      {[](const auto& in) { return packed_self_attention(in[0], 2, {.causal = true}); }, {{2, 6, 48}}},
  };
  for (const DType low : {DType::bf16, DType::f16}) {
    for (std::size_t c = 0; c < cases.size(); ++c) {
      const auto& [op, shapes] = cases[c];
      const std::string what = "case " + std::to_string(c) + " in " + std::string(name(low));
      std::vector<Tensor> implied, spelled, casts;
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        implied.push_back(leaf(shapes[i], DType::f32, i));
        spelled.push_back(leaf(shapes[i], DType::f32, i));
        casts.push_back(spelled.back().to(low));
      }
      const Tensor wanted = op(casts);
      sum(wanted.to(DType::f32)).backward();
      const Autocast scope(low);
      const Tensor y = op(implied);
      expect_same(y, wanted, what);
      sum(y).backward();  // within the scope, whose rules must not reach the backward
      for (std::size_t i = 0; i < shapes.size(); ++i) expect_same(implied[i].grad(), spelled[i].grad(), what);
    }
  }
}

TEST_P(AutocastOnDevice, WhatNeedsDigitsRunsInF32) {
  const std::vector<std::pair<const char*, std::function<Tensor(const Tensor&)>>> ops = {
      {"exp", [](const Tensor& x) { return exp(x); }},
      {"expm1", [](const Tensor& x) { return expm1(x); }},
      {"log", [](const Tensor& x) { return log(abs(x)); }},
      {"log1p", [](const Tensor& x) { return log1p(x); }},
      {"log2", [](const Tensor& x) { return log2(abs(x)); }},
      {"pow", [](const Tensor& x) { return pow(x, 3); }},
      {"square", [](const Tensor& x) { return pow(x, 2); }},
      {"pow of tensors", [](const Tensor& x) { return pow(abs(x), x); }},
      {"reciprocal", [](const Tensor& x) { return reciprocal(x); }},
      {"1 / x", [](const Tensor& x) { return 1.0 / x; }},
      {"rsqrt", [](const Tensor& x) { return rsqrt(abs(x)); }},
      {"tan", [](const Tensor& x) { return tan(x); }},
      {"softplus", [](const Tensor& x) { return softplus(x); }},
      {"sum", [](const Tensor& x) { return sum(x, {1}); }},
      {"mean", [](const Tensor& x) { return mean(x, {0}); }},
      {"prod", [](const Tensor& x) { return prod(x, {1}); }},
      {"cumsum", [](const Tensor& x) { return cumsum(x, 0); }},
      {"var", [](const Tensor& x) { return var(x, {1}); }},
      {"norm", [](const Tensor& x) { return norm(x, 2, {1}); }},
      {"logsumexp", [](const Tensor& x) { return logsumexp(x, {1}); }},
      {"softmax", [](const Tensor& x) { return softmax(x, -1); }},
      {"log_softmax", [](const Tensor& x) { return log_softmax(x, -1); }},
      {"mse_loss", [](const Tensor& x) { return mse_loss(x, zeros(x.shape(), {x.dtype()})); }},
  };
  for (const auto& [what, op] : ops) {
    const Tensor implied = leaf({4, 7}, DType::bf16), spelled = leaf({4, 7}, DType::bf16);
    const Tensor wanted = op(spelled.to(DType::f32));
    sum(wanted).backward();
    const Autocast scope(DType::bf16);
    const Tensor y = op(implied);
    expect_same(y, wanted, what);
    sum(y).backward();
    EXPECT_EQ(implied.grad().dtype(), DType::bf16) << what;
    const double size = norm(spelled.grad().to(DType::f64)).item<double>();
    EXPECT_LE(norm((implied.grad() - spelled.grad()).to(DType::f64)).item<double>(), 0.01 * size) << what;
  }
}

TEST_P(AutocastOnDevice, NormalisationTakesWeightsOfEitherType) {
  const Tensor x = leaf({3, 16}, DType::bf16), branch = random({3, 16}, DType::f32, 2);
  const Tensor weight = leaf({16}, DType::f32, 3), bias = leaf({16}, DType::f32, 4);
  const Tensor wanted = layer_norm(x.to(DType::f32), weight, bias);
  const auto [wanted_sum, wanted_y] = add_layer_norm(branch, x.to(DType::f32), weight, bias);
  const Autocast scope(DType::bf16);
  expect_same(layer_norm(x, weight, bias), wanted, "layer_norm");
  const auto [sum, y] = add_layer_norm(branch, x, weight, bias);
  expect_same(sum, wanted_sum, "the sum");
  expect_same(y, wanted_y, "add_layer_norm");
  y.backward(ones({3, 16}));
  EXPECT_EQ(x.grad().dtype(), DType::bf16);
  EXPECT_EQ(weight.grad().dtype(), DType::f32);
}

TEST_P(AutocastOnDevice, TheRestPromotesAndF64IsLeftAlone) {
  const Tensor half = random({4, 4}, DType::bf16), single = random({4, 4}), wide = random({4, 4}, DType::f64);
  const Autocast scope(DType::bf16);
  EXPECT_EQ((half + single).dtype(), DType::f32);
  EXPECT_EQ(gelu(half).dtype(), DType::bf16);
  EXPECT_EQ(dropout(single, 0.5).dtype(), DType::f32);
  EXPECT_EQ(matmul(wide, wide).dtype(), DType::f64);
  EXPECT_EQ(exp(wide).dtype(), DType::f64);
  EXPECT_EQ(sum(arange(4)).dtype(), DType::i64);
  EXPECT_EQ(cross_entropy(half, arange(4)).dtype(), DType::f32);
}

TEST_P(AutocastOnDevice, ScopesNestAndBelongToTheirThread) {
  const Tensor x = random({2, 2});
  const auto type = [&] { return matmul(x, x).dtype(); };
  EXPECT_EQ(Autocast::current(), std::nullopt);
  {
    const Autocast outer(DType::bf16);
    EXPECT_EQ(type(), DType::bf16);
    {
      const Autocast inner(DType::f16);
      EXPECT_EQ(type(), DType::f16);
      const NoAutocast none;
      EXPECT_EQ(type(), DType::f32);
      const Autocast again(DType::bf16);
      EXPECT_EQ(type(), DType::bf16);
    }
    EXPECT_EQ(type(), DType::bf16);
    std::thread([&] { EXPECT_EQ(Autocast::current(), std::nullopt); }).join();
  }
  EXPECT_EQ(type(), DType::f32);
  EXPECT_EQ(message_of<DtypeError>([] { const Autocast scope(DType::f32); }),
            "[autocast] the low dtype must be bf16 or f16, not f32");
}

TEST_P(AutocastOnDevice, ALeafIsCastOncePerScope) {
  const Tensor weight = leaf({8, 8}), x = random({4, 8});
  const Autocast scope(DType::bf16);
  const Tensor first = Autocast::cast_leaf(weight);
  EXPECT_TRUE(first.same(Autocast::cast_leaf(weight)));
  // Two graphs share the cast: a backward through one leaves the other whole.
  const Tensor one = sum(linear(x, weight)), two = sum(linear(x * 2.0, weight));
  one.backward();
  const auto once = weight.grad().to_doubles();
  two.backward();
  auto thrice = weight.grad().to_doubles();
  for (std::size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(thrice[i], 3 * once[i], 0.02 * std::abs(once[i]));
  {
    const Autocast inner(DType::bf16);
    EXPECT_FALSE(first.same(Autocast::cast_leaf(weight)));
  }
  {
    // What was cast without recording must not stand in for what is recorded.
    const NoGrad no_grad;
    EXPECT_FALSE(Autocast::cast_leaf(weight).requires_grad());
    weight.copy_(weight * 0.5);
  }
  const Tensor later = Autocast::cast_leaf(weight);
  EXPECT_TRUE(later.requires_grad());
  expect_same(later, weight.detach().to(DType::bf16), "after a write");
}

TEST_P(AutocastOnDevice, ACheckpointRunsAgainInTheSamePrecision) {
  const Tensor weight = leaf({8, 8}), plain = leaf({8, 8});
  const auto block = [](const Tensor& w) {
    return [w](const std::vector<Tensor>& in) { return gelu(linear(in[0], w) * 3.0); };
  };
  const Tensor x = leaf({4, 8}, DType::f32, 2), y = leaf({4, 8}, DType::f32, 2), before = leaf({8, 8}, DType::f32, 3);
  Tensor loss, wanted;
  {
    const Autocast scope(DType::bf16);
    wanted = sum(block(plain)({linear(y, before)}));
    loss = sum(checkpoint(block(weight), {linear(x, before)}));
  }
  wanted.backward();
  loss.backward();
  expect_same(weight.grad(), plain.grad(), "the weight's gradient");
  expect_same(x.grad(), y.grad(), "the input's gradient");
  const Tensor outside = sum(checkpoint(block(weight), {x}));
  {
    const Autocast scope(DType::bf16);
    outside.backward();  // the forward ran in f32
  }
}

TEST_P(AutocastOnDevice, AStepCanBeCaptured) {
  const auto run = [&](bool captured) {
    const Tensor weight = leaf({8, 8}), bias = leaf({8}, DType::f32, 2);
    const StepGraph::Step step = [&](const std::vector<Tensor>& in) {
      for (const Tensor& p : {weight, bias}) p.zero_grad();
      const Tensor loss = [&] {
        const Autocast scope(DType::bf16);
        const Tensor hidden = gelu(linear(in[0], weight, bias));
        return mean(square(linear(hidden, weight)));
      }();
      loss.backward();
      const NoGrad no_grad;
      for (const Tensor& p : {weight, bias}) p.copy_(p - p.grad() * 0.5);
      return std::vector<Tensor>{loss};
    };
    StepGraph graph(device(), step);
    std::vector<double> losses;
    // A scope around all steps: nothing that one of them has cast may serve the next.
    const Autocast around(DType::bf16);
    for (std::uint64_t i = 0; i < 6; ++i) {
      const std::vector<Tensor> in = {random({4, 8}, DType::f32, i)};
      losses.push_back((captured ? graph(in)[0] : step(in)[0]).item<double>());
    }
    return losses;
  };
  EXPECT_EQ(run(true), run(false));
}

INSTANTIATE_TEST_SUITE_P(Devices, AutocastOnDevice, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix
