#include "support/on_device.h"

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

class ClipOnDevice : public trinix::testing::OnDevice {};

TEST_P(ClipOnDevice, GradNormIsThatOfOneLongVector) {
  const Tensor a = with_grad(full({3}, 2.0)), b = with_grad(full({2, 2}, -3.0, {DType::f64}));
  Tensor none = zeros({5});
  none.requires_grad_();
  EXPECT_DOUBLE_EQ(grad_norm({a, none, b}), std::sqrt(3 * 4.0 + 4 * 9.0));
  EXPECT_EQ(grad_norm({none}), 0);
  EXPECT_EQ(grad_norm({}), 0);
}

TEST_P(ClipOnDevice, GradNormNeitherOverflowsNorUnderflowsInSinglePrecision) {
  EXPECT_NEAR(grad_norm({with_grad(full({4}, 1e30))}) / 2e30, 1, 1e-6);
  EXPECT_NEAR(grad_norm({with_grad(full({4}, 1e-30))}) / 2e-30, 1, 1e-6);
}

TEST_P(ClipOnDevice, GradNormDoesNotDependOnTheNumberOfThreads) {
  std::vector<Tensor> parameters;
  for (const std::int64_t n : {70000, 16384, 16383, 1, 33, 0, 250001}) {
    parameters.push_back(with_grad(linspace(-1, 3, n).to(device())));
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

TEST_P(ClipOnDevice, ByNormScalesDownOnly) {
  const Tensor a = with_grad(full({1}, 3.0)), b = with_grad(full({1}, 4.0));
  EXPECT_DOUBLE_EQ(clip_grad_norm_({a, b}, 10), 5);
  EXPECT_EQ(a.grad().item<float>(), 3);
  EXPECT_DOUBLE_EQ(clip_grad_norm_({a, b}, 1), 5);
  EXPECT_NEAR(a.grad().item<float>(), 0.6, 1e-6);
  EXPECT_NEAR(b.grad().item<float>(), 0.8, 1e-6);
  EXPECT_EQ(clip_scale(0.5, 1), 1);
  EXPECT_DOUBLE_EQ(clip_scale(4, 1), 1 / (4 + 1e-6));
}

TEST_P(ClipOnDevice, ByNormReportsWhatIsNotFiniteAndTouchesNothing) {
  const Tensor good = with_grad(full({2}, 3.0));
  EXPECT_TRUE(std::isnan(clip_grad_norm_({good, with_grad(full({1}, NAN))}, 1)));
  EXPECT_TRUE(std::isinf(clip_grad_norm_({good, with_grad(full({1}, -INFINITY))}, 1)));
  EXPECT_THAT(good.grad().to_doubles(), Each(3.0));
  EXPECT_THROW(clip_grad_norm_({good}, 0), ConfigError);
  EXPECT_THROW(clip_grad_norm_({good}, NAN), ConfigError);
}

TEST_P(ClipOnDevice, ByValueBoundsEveryElement) {
  const Tensor p = with_grad(from_vector<float>({-5, -0.5, 0, 2, 9}));
  clip_grad_value_({p}, 1);
  EXPECT_THAT(p.grad().to_doubles(), ElementsAre(-1, -0.5, 0, 1, 1));
  EXPECT_THROW(clip_grad_value_({p}, -1), ConfigError);
}

TEST_P(ClipOnDevice, GradNormAsATensorIsTheSameNumber) {
  const std::vector<Tensor> parameters = {with_grad(rand({70001})), with_grad(rand({3}, {DType::f64})),
                                          with_grad(rand({40, 1025}).to(DType::bf16)), with_grad(zeros({0}))};
  const Tensor norm = grad_norm_tensor(parameters);
  EXPECT_EQ(norm.shape(), Shape{});
  EXPECT_EQ(norm.dtype(), DType::f64);
  EXPECT_EQ(norm.device(), device());
  EXPECT_EQ(norm.item<double>(), grad_norm(parameters));
  double squares = 0;
  for (const Tensor& p : parameters) {
    for (const double g : p.grad().to_doubles()) squares += g * g;
  }
  EXPECT_NEAR(norm.item<double>() / std::sqrt(squares), 1, 1e-12);
  EXPECT_EQ(grad_norm_tensor({with_grad(zeros({0}))}).item<double>(), 0);
}

TEST_P(ClipOnDevice, GradNormOfThreeThousandTensorsIsTheSameEveryTime) {
  std::vector<Tensor> parameters;
  double squares = 0;
  for (std::int64_t i = 0; i < 3000; ++i) {
    const std::int64_t n = i % 37 + (i % 500 == 0 ? 40000 : 0);
    parameters.push_back(with_grad(full({n}, 0.001 * static_cast<double>(i), {i % 2 == 0 ? DType::f32 : DType::f64})));
    const double value = i % 2 == 0 ? static_cast<double>(static_cast<float>(0.001 * static_cast<double>(i)))
                                    : 0.001 * static_cast<double>(i);
    squares += static_cast<double>(n) * value * value;
  }
  const double once = grad_norm(parameters);
  EXPECT_NEAR(once / std::sqrt(squares), 1, 1e-12);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(grad_norm(parameters), once);
}

INSTANTIATE_TEST_SUITE_P(Devices, ClipOnDevice, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
