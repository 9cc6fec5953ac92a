// Hooks, retain_grad.
#include "support/errors.h"
#include "support/values.h"

#include <gtest/gtest.h>
#include <memory>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>

namespace trinix {
namespace {

using namespace trinix::testing;

TEST(Hooks, LeafHookSeesTheSumOnce) {
  const Tensor x = leaf({3});
  std::vector<float> seen;
  x.register_hook([&](const Tensor& g) {
    seen.push_back(g.item<float>());
    return Tensor();
  });
  (x * 2 + x * 5).backward();
  EXPECT_EQ(seen, Floats{7});
  EXPECT_EQ(grad_of(x), Floats{7});
  (x * 1).backward();
  EXPECT_EQ(seen, (Floats{7, 1}));
  EXPECT_EQ(grad_of(x), Floats{8});
}

TEST(Hooks, NonLeafHookSeesTheSumAndReplacesIt) {
  const Tensor x = leaf({3});
  const Tensor h = x * x;
  h.register_hook([](const Tensor& g) {
    EXPECT_EQ(g.item<float>(), 9);
    return g * 100;
  });
  (h * 4 + h * 5).backward();
  EXPECT_EQ(grad_of(x), Floats{5400});
}

TEST(Hooks, RunInOrderAndCanBeRemoved) {
  const Tensor x = leaf({1});
  x.register_hook([](const Tensor& g) { return g + 1; });
  const int id = x.register_hook([](const Tensor& g) { return g * 10; });
  (x * 1).backward();
  EXPECT_EQ(grad_of(x), Floats{20});
  x.remove_hook(id);
  x.zero_grad();
  (x * 1).backward();
  EXPECT_EQ(grad_of(x), Floats{2});
}

TEST(Hooks, HookMayRemoveItself) {
  const Tensor x = leaf({1});
  int calls = 0;
  int id = 0;
  id = x.register_hook([&](const Tensor&) {
    ++calls;
    x.remove_hook(id);
    return Tensor();
  });
  (x * 1).backward();
  (x * 1).backward();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(grad_of(x), Floats{2});
}

TEST(Hooks, WrongShapeNamesTheOp) {
  const Tensor x = leaf({1, 2});
  const Tensor h = exp(x);
  h.register_hook([](const Tensor&) { return ones({3}); });
  EXPECT_EQ(message_of<AutogradError>([&] { sum(h).backward(); }),
            "[exp] a hook returned a gradient of shape [3], f32, cpu for a tensor of shape [2], f32, cpu");
}

TEST(Hooks, NeedATensorThatRequiresGrad) {
  const Tensor c = constant({1});
  EXPECT_EQ(message_of<AutogradError>([&] { c.register_hook([](const Tensor& g) { return g; }); }),
            "[register_hook] the tensor does not require grad");
  EXPECT_EQ(message_of<AutogradError>([&] { c.retain_grad(); }), "[retain_grad] the tensor does not require grad");
}

TEST(Hooks, BackwardInsideAHook) {
  const Tensor x = leaf({3});
  const Tensor other = leaf({5});
  x.register_hook([&](const Tensor&) {
    const EnableGrad enable;
    (other * other).backward();
    return Tensor();
  });
  (x * 2).backward();
  EXPECT_EQ(grad_of(x), Floats{2});
  EXPECT_EQ(grad_of(other), Floats{10});
}

TEST(Hooks, OneThatHoldsItsOwnTensorIsFreedByBackward) {
  std::weak_ptr<Storage> storage;
  {
    const Tensor x = leaf({3});
    const Tensor h = x * x;
    storage = h.storage();
    h.register_hook([h](const Tensor& g) { return g * h.item_scalar(); });
    (h * 2).backward();
    EXPECT_EQ(grad_of(x), Floats{108});
  }
  EXPECT_TRUE(storage.expired());
}

TEST(RetainGrad, KeepsTheGradientOfANonLeaf) {
  const Tensor x = leaf({3});
  const Tensor h = x * x;
  const Tensor plain = h * 2;
  h.retain_grad();
  h.register_hook([](const Tensor& g) { return g * 10; });
  plain.backward();
  EXPECT_EQ(grad_of(h), Floats{20});  // after the hooks
  EXPECT_FALSE(plain.grad().defined());
}

TEST(RetainGrad, HoldsTheLatestPass) {
  const Tensor x = leaf({3});
  const Tensor h = x * x;
  h.retain_grad();
  h.backward({}, true);
  (h * 4).backward();
  EXPECT_EQ(grad_of(h), Floats{4});
}

}  // namespace
}  // namespace trinix
