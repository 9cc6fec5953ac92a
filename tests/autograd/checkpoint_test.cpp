// Checkpointing: the same gradients as without it, less memory, and no gradient lost on the way.
#include "support/errors.h"
#include "support/values.h"

#include <gtest/gtest.h>

#include <trinix/autograd/checkpoint.h>
#include <trinix/autograd/engine.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/gradcheck.h>
#include <trinix/autograd/ops.h>
#include <trinix/core/backend.h>

namespace trinix {
namespace {

using namespace trinix::testing;
using Inputs = std::vector<Tensor>;

TEST(Checkpoint, GradientsOfInputsAndOfCapturedLeaves) {
  const Tensor x = leaf({1, 2});
  const Tensor w = leaf({3, 4});
  const auto function = [&](const Inputs& in) { return exp(in[0] * 0.1) * w; };
  sum(function({x})).backward();
  const Floats dx = grad_of(x);
  const Floats dw = grad_of(w);
  x.zero_grad();
  w.zero_grad();
  const Tensor y = checkpoint(function, {x});
  EXPECT_EQ(floats(y), floats(function({x})));
  sum(y).backward();
  EXPECT_EQ(grad_of(x), dx);
  EXPECT_EQ(grad_of(w), dw);
}

TEST(Checkpoint, ParametersAloneRequireGrad) {
  // The first block of a model gets an input without gradient. Its parameters must learn all the same.
  const Tensor x = constant({1, 2});
  const Tensor w = leaf({3, 4});
  const Tensor y = checkpoint([&](const Inputs& in) { return in[0] * w; }, {x});
  EXPECT_TRUE(y.requires_grad());
  sum(y).backward();
  EXPECT_EQ(grad_of(w), (Floats{1, 2}));
}

TEST(Checkpoint, NothingRequiresGrad) {
  const Tensor y = checkpoint([](const Inputs& in) { return in[0] * 2; }, {constant({1})});
  EXPECT_FALSE(y.requires_grad());
  const Tensor x = leaf({1});
  const NoGrad off;
  EXPECT_FALSE(checkpoint([](const Inputs& in) { return in[0] * 2; }, {x}).requires_grad());
}

TEST(Checkpoint, CapturedTensorWithAHistory) {
  const Tensor x = leaf({2});
  const Tensor h = x * x;
  const Tensor y = checkpoint([&](const Inputs& in) { return in[0] * h; }, {x});
  (y + h).backward();  // x^3 + x^2
  EXPECT_EQ(grad_of(x), Floats{16});
}

TEST(Checkpoint, Gradcheck) {
  const Tensor x = from_vector<double>({0.3, -0.7, 1.1}, TensorOptions{.requires_grad = true});
  const Tensor w = from_vector<double>({0.9, 0.2, -0.4}, TensorOptions{.requires_grad = true});
  const auto report = gradcheck(
      [](const Inputs& in) {
        return checkpoint([w = in[1]](const Inputs& inner) { return tanh(inner[0] * w) * inner[0]; }, {in[0]});
      },
      {x, w});
  EXPECT_TRUE(report) << report.message;
}

TEST(Checkpoint, DropoutDrawsTheSameMask) {
  const Tensor x = ones({1000}, {.requires_grad = true});
  manual_seed(5);
  const Tensor y = checkpoint([](const Inputs& in) { return dropout(in[0] * 3, 0.4); }, {x});
  static_cast<void>(rand({17}));  // draws in between must neither matter nor be repeated
  const RandomState before = default_generator().state();
  const Floats values = floats(y);
  sum(y).backward();
  EXPECT_EQ(default_generator().state().offset, before.offset);
  EXPECT_EQ(grad_of(x), values);  // at x = 1 both are 3 mask / 0.6
}

TEST(Checkpoint, GeneratorOfItsOwn) {
  Generator own(9);
  const Tensor x = ones({1000}, {.requires_grad = true});
  const Tensor y = checkpoint([&](const Inputs& in) { return dropout(in[0], 0.5, &own); }, {x}, {.generators = {&own}});
  const RandomState after = own.state();
  sum(y).backward();
  EXPECT_EQ(own.state().offset, after.offset);
  EXPECT_EQ(grad_of(x), floats(y));
}

TEST(Checkpoint, Nested) {
  const Tensor x = leaf({0.5});
  const Tensor w = leaf({2});
  const auto inner = [&](const Inputs& in) { return exp(in[0]) * w; };
  const auto outer = [&](const Inputs& in) { return checkpoint(inner, {in[0] * w}) * in[0]; };
  outer({x}).backward();
  const Floats dx = grad_of(x);
  const Floats dw = grad_of(w);
  x.zero_grad();
  w.zero_grad();
  checkpoint(outer, {x}).backward();
  EXPECT_EQ(grad_of(x), dx);
  EXPECT_EQ(grad_of(w), dw);
}

TEST(Checkpoint, SeveralResultsOfWhichOneIsUsed) {
  const Tensor x = leaf({1, 2});
  const auto results = checkpoint_all(
      [](const Inputs& in) {
        return Inputs{in[0] * 2, in[0] * in[0], (in[0] * 10).to(DType::i64)};
      },
      {x});
  ASSERT_EQ(results.size(), 3u);
  EXPECT_FALSE(results[2].requires_grad());
  EXPECT_EQ(results[2].to_vector<std::int64_t>(), (std::vector<std::int64_t>{10, 20}));
  sum(results[1]).backward();
  EXPECT_EQ(grad_of(x), (Floats{2, 4}));
}

TEST(Checkpoint, SameInputTwiceAndUndefinedInput) {
  const Tensor x = leaf({3});
  checkpoint([](const Inputs& in) { return in[2].defined() ? in[0] : in[0] * in[1]; }, {x, x, Tensor()}).backward();
  EXPECT_EQ(grad_of(x), Floats{6});
}

TEST(Checkpoint, ResultThatIsAnInputOrACapturedTensor) {
  const Tensor x = leaf({3});
  const Tensor w = leaf({4});
  const auto results = checkpoint_all([&](const Inputs& in) { return Inputs{in[0], in[0].reshape({1, 1}), w}; }, {x});
  for (const Tensor& t : results) {
    EXPECT_NE(t.raw_data(), x.raw_data());
    EXPECT_NE(t.raw_data(), w.raw_data());
  }
  (results[0] * 2 + results[1].reshape({1}) * 5 + results[2] * 7).backward();
  EXPECT_EQ(grad_of(x), Floats{7});
  EXPECT_EQ(grad_of(w), Floats{7});
}

TEST(Checkpoint, GradLeavesParametersAlone) {
  const Tensor x = leaf({2});
  const Tensor w = leaf({3});
  const auto block = [&](const Inputs& in) { return in[0] * in[0] * w; };
  const auto g = grad(checkpoint(block, {x}) * w, {x});
  EXPECT_EQ(floats(g[0]), Floats{36});
  EXPECT_FALSE(w.grad().defined());
  // A captured tensor can be asked for too, and gets its whole gradient.
  EXPECT_EQ(floats(grad(checkpoint(block, {x}) * w, {w})[0]), Floats{24});
}

TEST(Checkpoint, HooksOfCapturedLeavesSeeTheWholeSum) {
  const Tensor x = leaf({2});
  const Tensor w = leaf({3});
  std::vector<float> seen;
  w.register_hook([&](const Tensor& g) {
    seen.push_back(g.item<float>());
    return Tensor();
  });
  const auto block = [&](const Inputs& in) { return in[0] * w; };
  checkpoint(block, {checkpoint(block, {x})}).backward();
  EXPECT_EQ(seen, Floats{12});  // 2 w x
  EXPECT_EQ(grad_of(w), Floats{12});
}

TEST(Checkpoint, ParameterGradientsGoStraightToTheBuffer) {
  const Tensor x = ones({4, 3});
  const Tensor w = ones({5, 3}, {.requires_grad = true});
  const auto block = [&](const Inputs& in) { return linear(in[0], w); };
  sum(block({x})).backward();
  const void* address = w.grad().raw_data();
  sum(checkpoint(block, {x})).backward();
  EXPECT_EQ(w.grad().raw_data(), address);
  EXPECT_EQ(grad_of(w), Floats(15, 8.0f));
}

TEST(Checkpoint, RetainGraphRunsItAgain) {
  const Tensor x = leaf({2});
  int runs = 0;
  const Tensor y = checkpoint(
      [&](const Inputs& in) {
        ++runs;
        return in[0] * in[0];
      },
      {x});
  y.backward({}, /*retain_graph=*/true);
  y.backward();
  EXPECT_EQ(grad_of(x), Floats{8});
  EXPECT_EQ(runs, 3);
  EXPECT_EQ(
      message_of<AutogradError>([&] { y.backward(); }),
      "[backward] the graph through 'checkpoint' was already used by an earlier backward, which freed what it had "
      "saved; pass retain_graph = true to the first one");
}

TEST(Checkpoint, WritesInBetweenAreNoticed) {
  const Tensor x = leaf({2});
  const Tensor w = leaf({3});
  const auto block = [&](const Inputs& in) { return in[0] + w; };
  const Tensor h = x * 2;
  const Tensor y = checkpoint(block, {h});
  add_(h, 1);
  EXPECT_EQ(message_of<AutogradError>([&] { y.backward(); }),
            "[backward] a tensor of shape [1] saved by 'checkpoint' for its backward was changed in place by 'add_' "
            "since; use the form that is not in place, or clone() first");
  const Tensor z = checkpoint(block, {x});
  {
    const NoGrad off;
    mul_(w, 2);
  }
  EXPECT_EQ(
      message_of<AutogradError>([&] { z.backward(); }),
      "[backward] a leaf used by the function of a 'checkpoint' was changed in place by 'mul_' before the backward "
      "could run the function again; run the backward first");
}

TEST(Checkpoint, FunctionThatDoesSomethingElseTheSecondTime) {
  const Tensor x = leaf({2});
  const Tensor w = leaf({3});
  int runs = 0;
  const Tensor y = checkpoint([&](const Inputs& in) { return runs++ == 0 ? in[0] * w : in[0] * 3; }, {x});
  EXPECT_EQ(message_of<AutogradError>([&] { y.backward(); }),
            "[checkpoint] the function used other tensors that require grad when it was run again than at first (0 "
            "instead of 1); it must do the same both times");
  runs = 0;
  const Tensor z = checkpoint([&](const Inputs& in) { return runs++ == 0 ? in[0] : in[0].reshape({1, 1}); }, {x});
  EXPECT_EQ(message_of<AutogradError>([&] { z.backward(); }),
            "[checkpoint] result 0 of the function had shape [1], f32 at first, and another when it was run again");
}

TEST(Checkpoint, FreesWhatLiesBetween) {
  const std::int64_t size = 4 * 10'000;
  const Tensor x = ones({10'000}, {.requires_grad = true});
  const auto block = [](const Inputs& in) {
    Tensor h = in[0];
    for (int i = 0; i < 10; ++i) h = exp(h * 0.01);
    return h;
  };
  const auto held = [&](bool checkpointed) {
    const std::int64_t start = memory_stats(Device::cpu()).allocated;
    Tensor h = x;
    for (int i = 0; i < 5; ++i) h = checkpointed ? checkpoint(block, {h}) : block({h});
    return memory_stats(Device::cpu()).allocated - start;
  };
  EXPECT_GE(held(false), 50 * size);
  EXPECT_LE(held(true), 6 * size);

  // The peak of a whole step stays near one block's, not all blocks'.
  sum(x * 1).backward();
  const std::int64_t start = memory_stats(Device::cpu()).allocated;
  reset_peak_memory(Device::cpu());
  Tensor h = x;
  for (int i = 0; i < 5; ++i) h = checkpoint(block, {h});
  sum(h).backward();
  EXPECT_LE(memory_stats(Device::cpu()).peak_allocated - start, 22 * size);
  h = Tensor();
  EXPECT_EQ(memory_stats(Device::cpu()).allocated, start);
}

TEST(Checkpoint, LongChains) {
  const Tensor x = leaf({1});
  Tensor h = x;
  for (int i = 0; i < 20'000; ++i) h = checkpoint([](const Inputs& in) { return in[0] + 1; }, {h});
  h.backward();
  EXPECT_EQ(grad_of(x), Floats{1});
}

}  // namespace
}  // namespace trinix
