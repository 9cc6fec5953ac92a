// NoGrad, EnableGrad, detach, requires_grad_, ops without a backward, anomaly mode.
#include "support/errors.h"
#include "support/values.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <thread>

#include <trinix/autograd/checkpoint.h>
#include <trinix/autograd/engine.h>
#include <trinix/autograd/ops.h>
#include <trinix/autograd/record.h>

namespace trinix {
namespace {

using namespace trinix::testing;

TEST(GradMode, NestsAndRestores) {
  const Tensor x = leaf({1});
  EXPECT_TRUE((x * 2).requires_grad());
  {
    const NoGrad off;
    EXPECT_FALSE((x * 2).requires_grad());
    {
      const EnableGrad on;
      EXPECT_TRUE((x * 2).requires_grad());
      {
        const NoGrad off_again;
        EXPECT_FALSE(grad_enabled());
      }
      EXPECT_TRUE(grad_enabled());
    }
    EXPECT_FALSE(grad_enabled());
  }
  EXPECT_TRUE(grad_enabled());
}

TEST(GradMode, RestoredWhenAnErrorPasses) {
  try {
    const NoGrad off;
    static_cast<void>(ones({2}) + ones({3}));
    FAIL();
  } catch (const ShapeError&) {
  }
  EXPECT_TRUE(grad_enabled());
}

TEST(GradMode, BelongsToTheThread) {
  const NoGrad off;
  bool other = false;
  std::thread([&] { other = grad_enabled(); }).join();
  EXPECT_TRUE(other);
}

TEST(GradMode, BackwardWorksInsideNoGrad) {
  const Tensor x = leaf({3});
  const Tensor y = x * x;
  const NoGrad off;
  y.backward();
  EXPECT_EQ(grad_of(x), Floats{6});
}

TEST(Detach, SharesValuesButNotHistory) {
  const Tensor x = leaf({3});
  const Tensor h = x * x;
  const Tensor d = h.detach();
  EXPECT_FALSE(d.requires_grad());
  EXPECT_EQ(d.raw_data(), h.raw_data());
  (h * d).backward();
  EXPECT_EQ(grad_of(x), Floats{54});  // 9 * 6: d counts as a constant
}

TEST(RequiresGrad, LeavesOnly) {
  Tensor x = leaf({3});
  Tensor h = x * x;
  EXPECT_TRUE(h.requires_grad_().requires_grad());  // it does already
  EXPECT_EQ(message_of<AutogradError>([&] { h.requires_grad_(false); }),
            "[requires_grad_] only a leaf can stop requiring grad; use detach() on a computed tensor");
  x.requires_grad_(false);
  EXPECT_FALSE(x.requires_grad());
  EXPECT_FALSE((x * x).requires_grad());
}

TEST(RequiresGrad, FloatingPointOnly) {
  EXPECT_EQ(message_of<DtypeError>([] { arange(3).requires_grad_(); }),
            "[requires_grad_] a tensor of i64 cannot require grad: only floating-point tensors can");
}

TEST(NoBackward, RefusesInputsThatRequireGrad) {
  const Tensor x = leaf({3});
  const auto op = [](const Tensor& t) {
    record_no_backward("one_way", {t});
    return t.detach().clone();
  };
  EXPECT_EQ(message_of<AutogradError>([&] { op(x); }),
            "[one_way] an input requires grad, but 'one_way' has no backward; detach() the input or use NoGrad if its "
            "gradient is not wanted");
  EXPECT_NO_THROW(op(x.detach()));
  const NoGrad off;
  EXPECT_NO_THROW(op(x));
}

TEST(Anomaly, ForwardNamesTheOp) {
  const AnomalyMode on;
  const Tensor x = leaf({1, -1});
  EXPECT_EQ(message_of<AutogradError>([&] { static_cast<void>(sum(log(x))); }),
            "[log] anomaly: the forward of 'log' made NaN at element 1 of a tensor of shape [2]");
}

TEST(Anomaly, BackwardNamesTheOpOfTheUser) {
  const Tensor x = leaf({4, 0});
  const AnomalyMode on;
  const Tensor y = sum(sqrt(x));  // finite; its slope at 0 is not
  EXPECT_EQ(message_of<AutogradError>([&] { y.backward(); }),
            "[sqrt] anomaly: the backward of 'sqrt' made inf at element 1 of a tensor of shape [2]");
}

TEST(Anomaly, BackwardInsideACheckpointNamesTheInnerOp) {
  const Tensor x = leaf({4, 0});
  const AnomalyMode on;
  const Tensor y = checkpoint([](const auto& in) { return sum(sqrt(in[0])); }, {x});
  EXPECT_EQ(message_of<AutogradError>([&] { y.backward(); }),
            "[sqrt] anomaly: the backward of 'sqrt' made inf at element 1 of a tensor of shape [2]");
}

TEST(Anomaly, SeesWhatAKernelWroteToItsTarget) {
  const Tensor x = leaf({1});
  const AnomalyMode on;
  const Tensor y = record("bad_kernel", x.detach().clone(), {x}, {}, [](BackwardContext& ctx) {
    const GradTarget target = ctx.target(0);
    target.out.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
  });
  EXPECT_EQ(message_of<AutogradError>([&] { y.backward(); }),
            "[bad_kernel] anomaly: the backward of 'bad_kernel' made NaN at element 0 of a tensor of shape [1]");
}

TEST(Anomaly, OffUnlessAskedFor) {
  const Tensor x = leaf({-1});
  { const AnomalyMode on; }
  EXPECT_FALSE(AnomalyMode::enabled());
  EXPECT_TRUE(std::isnan(log(x).item<float>()));
}

TEST(Anomaly, FiniteStepsGiveTheSameGradients) {
  const Tensor x = leaf({1, 2});
  const AnomalyMode on;
  sum(x * exp(x)).backward();
  const Floats with = grad_of(x);
  x.zero_grad();
  {
    const AnomalyMode off(false);
    sum(x * exp(x)).backward();
  }
  EXPECT_EQ(grad_of(x), with);
}

}  // namespace
}  // namespace trinix
