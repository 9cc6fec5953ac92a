#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/core/error.h>
#include <trinix/core/threads.h>
#include <trinix/optim/clip.h>

namespace trinix::optim {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

Tensor with_grad(const Tensor& gradient) {
  Tensor p = zeros_like(gradient);
  p.requires_grad_();
  p.set_grad(gradient);
  return p;
}

TEST(GradNorm, IsThatOfOneLongVector) {
  const Tensor a = with_grad(full({3}, 2.0)), b = with_grad(full({2, 2}, -3.0, {DType::f64}));
  Tensor none = zeros({5});
  none.requires_grad_();
  EXPECT_DOUBLE_EQ(grad_norm({a, none, b}), std::sqrt(3 * 4.0 + 4 * 9.0));
  EXPECT_EQ(grad_norm({none}), 0);
  EXPECT_EQ(grad_norm({}), 0);
}

TEST(GradNorm, NeitherOverflowsNorUnderflowsInSinglePrecision) {
  EXPECT_NEAR(grad_norm({with_grad(full({4}, 1e30))}) / 2e30, 1, 1e-6);
  EXPECT_NEAR(grad_norm({with_grad(full({4}, 1e-30))}) / 2e-30, 1, 1e-6);
}

TEST(GradNorm, DoesNotDependOnTheNumberOfThreads) {
  std::vector<Tensor> parameters;
  for (const std::int64_t n : {70000, 16384, 16383, 1, 33, 0, 250001}) {
    parameters.push_back(with_grad(linspace(-1, 3, n)));
  }
  set_num_threads(1);
  const double one = grad_norm(parameters);
  for (const int threads : {2, 3, 4}) {
    set_num_threads(threads);
    EXPECT_EQ(grad_norm(parameters), one);
  }
  set_num_threads(0);
  double squares = 0;
  for (const Tensor& p : parameters) {
    for (const double g : p.grad().to_doubles()) squares += g * g;
  }
  EXPECT_NEAR(one / std::sqrt(squares), 1, 1e-13);
}

TEST(ClipGradNorm, ScalesDownOnly) {
  const Tensor a = with_grad(full({1}, 3.0)), b = with_grad(full({1}, 4.0));
  EXPECT_DOUBLE_EQ(clip_grad_norm_({a, b}, 10), 5);
  EXPECT_EQ(a.grad().item<float>(), 3);
  EXPECT_DOUBLE_EQ(clip_grad_norm_({a, b}, 1), 5);
  EXPECT_NEAR(a.grad().item<float>(), 0.6, 1e-6);
  EXPECT_NEAR(b.grad().item<float>(), 0.8, 1e-6);
  EXPECT_EQ(clip_scale(0.5, 1), 1);
  EXPECT_DOUBLE_EQ(clip_scale(4, 1), 1 / (4 + 1e-6));
}

TEST(ClipGradNorm, ReportsWhatIsNotFiniteAndTouchesNothing) {
  const Tensor good = with_grad(full({2}, 3.0));
  EXPECT_TRUE(std::isnan(clip_grad_norm_({good, with_grad(full({1}, NAN))}, 1)));
  EXPECT_TRUE(std::isinf(clip_grad_norm_({good, with_grad(full({1}, -INFINITY))}, 1)));
  EXPECT_THAT(good.grad().to_doubles(), Each(3.0));
  EXPECT_THROW(clip_grad_norm_({good}, 0), ConfigError);
  EXPECT_THROW(clip_grad_norm_({good}, NAN), ConfigError);
}

TEST(ClipGradValue, BoundsEveryElement) {
  const Tensor p = with_grad(from_vector<float>({-5, -0.5, 0, 2, 9}));
  clip_grad_value_({p}, 1);
  EXPECT_THAT(p.grad().to_doubles(), ElementsAre(-1, -0.5, 0, 1, 1));
  EXPECT_THROW(clip_grad_value_({p}, -1), ConfigError);
}

}  // namespace
}  // namespace trinix::optim
