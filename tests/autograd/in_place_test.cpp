// Version counters, views, and what in-place writes may and may not do while gradients are recorded.
#include "support/errors.h"
#include "support/values.h"

#include <gtest/gtest.h>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>

namespace trinix {
namespace {

using namespace trinix::testing;

TEST(Versions, WriteToASavedTensorNamesBothOps) {
  const Tensor x = leaf({1, 2});
  const Tensor h = x * 2;
  const Tensor y = sum(h * h);
  add_(h, 1);
  EXPECT_EQ(
      message_of<AutogradError>([&] { y.backward(); }),
      "[backward] a tensor of shape [2] saved by 'mul' for its backward was changed in place by 'add_' since; use "
      "the form that is not in place, or clone() first");
}

TEST(Versions, WriteUnderNoGradIsNoticedToo) {
  const Tensor x = leaf({1, 2});
  const Tensor y = sum(exp(x * x));
  {
    const NoGrad off;
    mul_(x, 2);  // what an optimizer does too early
  }
  EXPECT_EQ(
      message_of<AutogradError>([&] { y.backward(); }),
      "[backward] a tensor of shape [2] saved by 'mul' for its backward was changed in place by 'mul_' since; use "
      "the form that is not in place, or clone() first");
}

TEST(Versions, WriteThroughAViewOrADetachedHandleIsNoticed) {
  const Tensor x = leaf({1, 2});
  const Tensor h = x * 2;
  const Tensor y = sum(h * h);
  add_(h.detach(), 1);
  EXPECT_THROW(y.backward(), AutogradError);

  const Tensor z = sum(h * h);
  {
    const NoGrad off;
    add_(h.slice(0, 0, 1), 1);
  }
  EXPECT_THROW(z.backward(), AutogradError);
}

TEST(Versions, WriteToWhatIsNotSavedIsFine) {
  const Tensor x = leaf({1, 2});
  const Tensor h = x * 2;
  const Tensor y = h + 1;
  add_(h, 5);  // neither the product with a number nor the sum has saved h
  sum(y + h).backward();
  EXPECT_EQ(grad_of(x), (Floats{4, 4}));
}

TEST(InPlace, GradientsFlowThroughTarget) {
  const Tensor x = leaf({1, 2});
  const Tensor w = leaf({3, 4});
  const Tensor h = x * 2;
  add_(h, w);
  mul_(h, w);
  EXPECT_EQ(floats(h), (Floats{15, 32}));
  sum(h).backward();
  EXPECT_EQ(grad_of(x), (Floats{6, 8}));          // 2 w
  EXPECT_EQ(grad_of(w), (Floats{2 + 6, 4 + 8}));  // 2 x + 2 w
}

TEST(InPlace, PlainTensorBecomesPartOfTheGraph) {
  const Tensor w = leaf({3, 4});
  const Tensor buffer = zeros({2, 2});
  add_(buffer, w);
  EXPECT_TRUE(buffer.requires_grad());
  EXPECT_FALSE(buffer.is_leaf());
  sum(buffer).backward();
  EXPECT_EQ(grad_of(w), (Floats{2, 2}));
}

TEST(InPlace, OverwritingCutsTheOldHistory) {
  const Tensor x = leaf({1, 2});
  const Tensor h = x * x;
  const Tensor c = constant({5, 6});
  h.copy_(c);
  const auto g = grad(sum(h * x), {x});
  EXPECT_EQ(floats(g[0]), (Floats{5, 6}));
}

TEST(InPlace, LeafThatRequiresGrad) {
  const Tensor x = leaf({1, 2});
  EXPECT_EQ(message_of<AutogradError>([&] { add_(x, 1); }),
            "[add_] a leaf that requires grad cannot be changed in place while gradients are recorded; use NoGrad if "
            "that is what you want");
  EXPECT_EQ(floats(x), (Floats{1, 2}));  // refused before anything was written
  const NoGrad off;
  add_(x, 1);
  EXPECT_EQ(floats(x), (Floats{2, 3}));
  EXPECT_TRUE(x.is_leaf());
}

TEST(InPlace, IntegersTakeNoGradients) {
  const Tensor x = leaf({1, 2});
  const Tensor target = zeros({2}, {DType::i64});
  EXPECT_EQ(message_of<DtypeError>([&] { add_(target, x); }),
            "[add_] a f32 result does not fit in place into a tensor of i64");
}

TEST(Views, WriteToAViewOfARecordedTensor) {
  const Tensor x = leaf({1, 2});
  const Tensor h = x * 2;
  EXPECT_EQ(message_of<AutogradError>([&] { add_(h[0], 1); }),
            "[add_] writing in place to a view would cut off the gradient of its base; compute the new value without "
            "writing in place, for example with cat() or where()");
  const Tensor plain = zeros({2});
  EXPECT_THROW(add_(plain[0], sum(x)), AutogradError);
  EXPECT_EQ(floats(plain), (Floats{0, 0}));
}

TEST(Views, ViewTakenUnderNoGrad) {
  const Tensor x = leaf({1, 2});
  const Tensor h = x * 2;
  Tensor view;
  {
    const NoGrad off;
    view = h[0];
  }
  EXPECT_EQ(message_of<AutogradError>([&] { mul_(view, 0); }),
            "[mul_] the target is a view that was taken under NoGrad of a tensor that requires grad; writing to it now "
            "would change that tensor without a trace in its gradient: write under NoGrad too, or take the view again");
  EXPECT_EQ(floats(h), (Floats{2, 4}));
  const NoGrad off;
  mul_(view, 0);
  EXPECT_EQ(floats(h), (Floats{0, 4}));
}

TEST(Views, OutdatedByAWriteToTheBase) {
  const Tensor x = leaf({1, 2});
  const Tensor base = x * 2;
  const Tensor view = base[0];
  add_(base, x);
  EXPECT_EQ(
      message_of<AutogradError>([&] { static_cast<void>(view * 3); }),
      "[mul] input 0 is a view whose base was changed in place by 'add_' after the view was taken, so its gradient "
      "would be wrong; take the view again");
  (base[0] * 3).backward();
  EXPECT_EQ(grad_of(x), (Floats{9, 0}));
}

TEST(Views, OutdatedThoughNeitherHadAHistory) {
  const Tensor x = leaf({1, 2});
  const Tensor base = zeros({2});
  const Tensor view = base[1];
  add_(base, x);  // now base has a history of which the view knows nothing
  EXPECT_THROW(static_cast<void>(view * 3), AutogradError);
  const NoGrad off;
  EXPECT_EQ((view * 3).item<float>(), 6);
}

TEST(Views, ViewOfAViewKnowsTheBase) {
  const Tensor x = leaf({1, 2, 3, 4});
  const Tensor base = x * 2;
  const Tensor view = base.reshape({2, 2}).transpose(0, 1)[0];
  add_(base, 1);
  EXPECT_THROW(static_cast<void>(view + 1), AutogradError);
}

TEST(Views, BaseWrittenUnderNoGradLeavesViewsValid) {
  const Tensor x = leaf({1, 2});
  const Tensor base = x * 2;
  const Tensor view = base[1];
  {
    const NoGrad off;
    add_(base, 1);
  }
  (view * 3).backward();
  EXPECT_EQ(grad_of(x), (Floats{0, 6}));
}

TEST(Views, GradientsOfViewsMeetInTheBase) {
  const Tensor x = leaf({1, 2, 3, 4}, {2, 2});
  const Tensor row = x[0];
  const Tensor corner = x.slice(1, 1, 2);
  const Tensor diagonal = x.diagonal();
  (sum(row) + sum(corner * corner) + sum(diagonal * 10)).backward();
  EXPECT_EQ(grad_of(x), (Floats{11, 1 + 4, 0, 8 + 10}));
}

}  // namespace
}  // namespace trinix
