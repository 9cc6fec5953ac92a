// What the engine computes: sums over paths, order, repeated use, and the errors of misuse.
#include "support/errors.h"
#include "support/values.h"

#include <gtest/gtest.h>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/ops.h>
#include <trinix/autograd/record.h>

namespace trinix {
namespace {

using namespace trinix::testing;

/// y = x, noting in `log` when its backward runs.
Tensor traced(const char* name, const Tensor& x, std::vector<std::string>& log) {
  return record(name, x.detach().clone(), {x}, {}, [name, &log](BackwardContext& ctx) {
    log.emplace_back(name);
    ctx.give(0, ctx.grad());
  });
}

TEST(Engine, ChainRule) {
  const Tensor x = leaf({2, 3});
  sum(x * x * x).backward();
  EXPECT_EQ(grad_of(x), (Floats{12, 27}));
}

TEST(Engine, DiamondSumsBothPaths) {
  const Tensor x = leaf({3});
  const Tensor a = x * 2;
  const Tensor b = x * x;
  (a * b).backward();  // 2 x^3
  EXPECT_EQ(grad_of(x), Floats{54});
}

TEST(Engine, OneTensorAsBothOperands) {
  const Tensor x = leaf({3});
  (x * x).backward();
  EXPECT_EQ(grad_of(x), Floats{6});
  (x - x).backward();
  EXPECT_EQ(grad_of(x), Floats{6});
}

TEST(Engine, NodeRunsOnceAfterAllItsUsers) {
  std::vector<std::string> log;
  const Tensor x = leaf({1});
  const Tensor a = traced("a", x, log);
  const Tensor b = traced("b", a, log);
  const Tensor c = traced("c", a, log);
  const Tensor d = traced("d", b + c, log);
  (d + a).backward();
  EXPECT_EQ(log, (std::vector<std::string>{"d", "c", "b", "a"}));
  EXPECT_EQ(grad_of(x), Floats{3});
}

TEST(Engine, ManyLevelsOfDiamondsTakeLinearTime) {
  const Tensor x = leaf({1});
  Tensor y = x;
  for (int i = 0; i < 60; ++i) y = y * 0.5 + y * 0.5;  // 2^60 paths
  y.backward();
  EXPECT_EQ(grad_of(x), Floats{1});
}

TEST(Engine, BackwardAddsToEarlierGradients) {
  const Tensor x = leaf({1, 2});
  sum(x * 3).backward();
  sum(x * x).backward();
  EXPECT_EQ(grad_of(x), (Floats{5, 7}));
}

TEST(Engine, GivenGradientWeighsTheOutput) {
  const Tensor x = leaf({1, 2});
  (x * x).backward(constant({10, 100}));
  EXPECT_EQ(grad_of(x), (Floats{20, 400}));
}

TEST(Engine, SeveralRoots) {
  const Tensor x = leaf({1, 2});
  const Tensor a = sum(x * 2);
  const Tensor b = a * a;  // a is a root and lies below another root
  const std::vector<Tensor> roots = {a, b, a};
  backward(roots, {});
  EXPECT_EQ(grad_of(x), (Floats{28, 28}));  // 2 + 2 + 2 * 6 * 2
}

TEST(Engine, LeafAsRoot) {
  const Tensor x = leaf({4});
  x.backward();
  x.backward(constant({2}));
  EXPECT_EQ(grad_of(x), Floats{3});
}

TEST(Engine, TensorsWithoutGradTakeNoPart) {
  const Tensor x = leaf({2});
  const Tensor c = constant({5});
  const Tensor y = x * c;
  EXPECT_TRUE(y.requires_grad());
  EXPECT_FALSE(y.is_leaf());
  y.backward();
  EXPECT_EQ(grad_of(x), Floats{5});
  EXPECT_FALSE(c.grad().defined());
  EXPECT_FALSE((c * c).requires_grad());
}

TEST(Engine, IntegersCutTheGraph) {
  const Tensor x = leaf({2.5});
  EXPECT_FALSE(x.to(DType::i64).requires_grad());
}

TEST(Engine, GradientReturnsInTheDtypeOfEachInput) {
  const Tensor x = leaf({3});
  const Tensor w = full({1}, 2, {DType::f64, {}, true});
  const Tensor y = x * w;
  EXPECT_EQ(y.dtype(), DType::f64);
  y.backward();
  EXPECT_EQ(x.grad().dtype(), DType::f32);
  EXPECT_EQ(w.grad().dtype(), DType::f64);
}

TEST(Engine, RetainGraphAllowsAnotherPass) {
  const Tensor x = leaf({3});
  const Tensor y = x * x;
  y.backward({}, /*retain_graph=*/true);
  y.backward();
  EXPECT_EQ(grad_of(x), Floats{12});
}

TEST(Engine, BackwardTwiceNamesTheOp) {
  const Tensor x = leaf({3});
  const Tensor y = x * x;
  y.backward();
  EXPECT_EQ(
      message_of<AutogradError>([&] { y.backward(); }),
      "[backward] the graph through 'mul' was already used by an earlier backward, which freed what it had saved; "
      "pass retain_graph = true to the first one");
  EXPECT_EQ(grad_of(x), Floats{6});
}

TEST(Engine, SharedPartOfAFreedGraph) {
  const Tensor x = leaf({3});
  const Tensor shared = exp(x);
  (shared * 2).backward();
  const Tensor z = shared * 3;
  EXPECT_EQ(
      message_of<AutogradError>([&] { z.backward(); }),
      "[backward] the graph through 'exp' was already used by an earlier backward, which freed what it had saved; "
      "pass retain_graph = true to the first one");
}

TEST(Engine, NonScalarNeedsAGradient) {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * 2;
  EXPECT_EQ(message_of<AutogradError>([&] { y.backward(); }),
            "[backward] the tensor has shape [2]; without a gradient argument only a one-element tensor can be "
            "differentiated: reduce it first, or pass a gradient");
}

TEST(Engine, NothingToDifferentiate) {
  const Tensor x = ones({2, 2});
  EXPECT_EQ(message_of<AutogradError>([&] { sum(x).backward(); }),
            "[backward] the tensor of shape [] does not require grad and was not computed from one that does, so there "
            "is nothing to differentiate");
}

TEST(Engine, GradientMustFit) {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * 2;
  EXPECT_EQ(message_of<ShapeError>([&] { y.backward(ones({3})); }),
            "[backward] the gradient has shape [3], its tensor [2]; they must be equal");
  EXPECT_EQ(message_of<DtypeError>([&] { y.backward(ones({2}, {DType::f64})); }),
            "[backward] the gradient is f64, its tensor f32; they must be equal");
  const std::vector<Tensor> outputs = {y, y};
  const std::vector<Tensor> gradients = {ones({2})};
  EXPECT_EQ(message_of<AutogradError>([&] { backward(outputs, gradients); }),
            "[backward] 2 outputs were given with 1 gradients");
}

TEST(Engine, BackwardThatGivesTheWrongShapeIsNamed) {
  const Tensor x = leaf({1, 2});
  const Tensor y = record("broken", ones({}), {x}, {}, [](BackwardContext& ctx) { ctx.give(0, ctx.grad()); });
  EXPECT_EQ(
      message_of<AutogradError>([&] { y.backward(); }),
      "[broken] the backward of 'broken' gave a gradient of shape [], f32, cpu for input 0 of shape [2], f32, cpu");
}

TEST(Engine, OutputWithoutGradientReadsAsZeros) {
  const Tensor x = leaf({1, 2});
  const Tensor a = x.detach() * 2;
  const Tensor b = x.detach() * 3;
  record_all("two", {a, b}, {x}, {}, [](BackwardContext& ctx) {
    EXPECT_TRUE(ctx.has_grad(0));
    EXPECT_FALSE(ctx.has_grad(1));
    ctx.give(0, ctx.grad(0) * 2 + ctx.grad(1) * 3);
  });
  sum(a).backward();
  EXPECT_EQ(grad_of(x), (Floats{2, 2}));
}

TEST(Engine, OneLeafAsTwoTargetsOfOneKernel) {
  // A fused kernel may ask for both places before it fills either: the second must not be the same buffer.
  const Tensor x = leaf({1, 2});
  const Tensor y = record("fused", x.detach() * 3, {x, x}, {}, [](BackwardContext& ctx) {
    const GradTarget first = ctx.target(0);
    const GradTarget second = ctx.target(1);
    EXPECT_NE(first.out.raw_data(), second.out.raw_data());
    const NoGrad no_grad;
    EXPECT_FALSE(first.accumulate);
    EXPECT_FALSE(second.accumulate);
    second.out.copy_(ctx.grad() * 2);
    first.out.copy_(ctx.grad());
  });
  sum(y).backward();
  EXPECT_EQ(grad_of(x), (Floats{3, 3}));
}

TEST(Engine, EmptyTensors) {
  const Tensor x = zeros({0, 3}, {.requires_grad = true});
  sum(x * x + x).backward();
  ASSERT_TRUE(x.grad().defined());
  EXPECT_EQ(x.grad().shape(), (Shape{0, 3}));
}

}  // namespace
}  // namespace trinix
