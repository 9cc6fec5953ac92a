// grad(): gradients as return values.
#include "support/errors.h"
#include "support/values.h"

#include <gtest/gtest.h>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/ops.h>
#include <trinix/autograd/record.h>

namespace trinix {
namespace {

using namespace trinix::testing;

TEST(Grad, LeavesStayAsTheyAre) {
  const Tensor x = leaf({3});
  const Tensor w = leaf({4});
  w.set_grad(constant({7}));
  const auto g = grad(x * w, {x, w});
  EXPECT_EQ(floats(g[0]), Floats{4});
  EXPECT_EQ(floats(g[1]), Floats{3});
  EXPECT_FALSE(x.grad().defined());
  EXPECT_EQ(grad_of(w), Floats{7});
}

TEST(Grad, NonLeavesAndTheOutputItself) {
  const Tensor x = leaf({3});
  const Tensor h = x * x;
  const Tensor y = h * h;
  const auto g = grad(y, {h, x, y});
  EXPECT_EQ(floats(g[0]), Floats{18});
  EXPECT_EQ(floats(g[1]), Floats{108});
  EXPECT_EQ(floats(g[2]), Floats{1});
}

TEST(Grad, RetainedGradientsOfOthersStay) {
  const Tensor x = leaf({3});
  const Tensor h = x * x;
  h.retain_grad();
  static_cast<void>(grad(h * 2, {x}));
  EXPECT_FALSE(h.grad().defined());
}

TEST(Grad, UnusedInput) {
  const Tensor x = leaf({3});
  const Tensor other = leaf({1, 2});
  const Tensor y = x * x;
  const auto g = grad(y, {x, other}, {}, {.retain_graph = true}, /*allow_unused=*/true);
  EXPECT_EQ(floats(g[0]), Floats{6});
  EXPECT_FALSE(g[1].defined());
  EXPECT_EQ(message_of<AutogradError>([&] { static_cast<void>(grad(y, {other})); }),
            "[grad] the outputs do not depend on input 0 of shape [2]; pass allow_unused = true if that is expected");
}

TEST(Grad, InputWithoutGrad) {
  const Tensor x = leaf({3});
  const Tensor c = constant({1});
  EXPECT_EQ(message_of<AutogradError>([&] {
              static_cast<void>(grad(x * c, {x, c}));
            }),
            "[grad] input 1 of shape [1] does not require grad");
  EXPECT_EQ(message_of<AutogradError>([&] { static_cast<void>(grad(c * c, {x})); }),
            "[grad] the tensor of shape [1] does not require grad and was not computed from one that does, so there is "
            "nothing to differentiate");
}

TEST(Grad, RunsOnlyWhatTheInputsNeed) {
  const Tensor x = leaf({3});
  const Tensor w = leaf({4});
  bool ran = false;
  const Tensor side = record("side", w.detach().clone(), {w}, {}, [&ran](BackwardContext& ctx) {
    ran = true;
    ctx.give(0, ctx.grad());
  });
  const Tensor y = x * side;
  const auto g = grad(y, {x}, {}, {.retain_graph = true});
  EXPECT_EQ(floats(g[0]), Floats{4});
  EXPECT_FALSE(ran);
  // Stopping at a non-leaf does not run, nor free, what lies behind it.
  EXPECT_EQ(floats(grad(y, {side})[0]), Floats{3});
  EXPECT_FALSE(ran);
  side.backward();
  EXPECT_TRUE(ran);
}

TEST(Grad, GivenGradientsOfSeveralOutputs) {
  const Tensor x = leaf({1, 2});
  const std::vector<Tensor> outputs = {x * 2, x * x};
  const std::vector<Tensor> weights = {constant({1, 1}), constant({10, 100})};
  const std::vector<Tensor> inputs = {x};
  EXPECT_EQ(floats(grad(outputs, inputs, weights)[0]), (Floats{22, 402}));
}

TEST(Grad, HooksChangeWhatIsReturned) {
  const Tensor x = leaf({3});
  x.register_hook([](const Tensor& g) { return g * 10; });
  EXPECT_EQ(floats(grad(x * 2, {x})[0]), Floats{20});
}

}  // namespace
}  // namespace trinix
