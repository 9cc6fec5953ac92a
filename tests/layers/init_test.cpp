#include "support/compare.h"
#include "support/errors.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/layers/init.h>

namespace trinix::nn {
namespace {

using ::testing::HasSubstr;
using trinix::testing::message_of;

constexpr TensorOptions kF64{DType::f64};

using trinix::testing::deviation;
using trinix::testing::largest;
double average(const Tensor& x) { return mean(x).to(DType::f64).item<double>(); }

TEST(Init, CountsFans) {
  EXPECT_EQ(init::fans(zeros({3, 5})).in, 5);
  EXPECT_EQ(init::fans(zeros({3, 5})).out, 3);
  EXPECT_EQ(init::fans(zeros({3, 5, 2, 2})).in, 20);
  EXPECT_EQ(init::fans(zeros({3, 5, 2, 2})).out, 12);
  EXPECT_THAT(message_of<ShapeError>([] { (void)init::fans(zeros({3})); }), HasSubstr("got [3]"));
}

TEST(Init, GainsAreThoseOfPyTorch) {
  using init::Nonlinearity;
  EXPECT_EQ(init::gain(Nonlinearity::linear), 1);
  EXPECT_EQ(init::gain(Nonlinearity::sigmoid), 1);
  EXPECT_NEAR(init::gain(Nonlinearity::tanh), 1.6666666666666667, 1e-15);
  EXPECT_NEAR(init::gain(Nonlinearity::relu), 1.4142135623730951, 1e-15);
  EXPECT_NEAR(init::gain(Nonlinearity::leaky_relu, 0.2), 1.3867504905630728, 1e-15);
  EXPECT_EQ(init::gain(Nonlinearity::selu), 0.75);
}

TEST(Init, DistributionsHaveTheRightWidth) {
  Generator g(3);
  const Tensor w = empty({200, 300}, kF64);
  const double fan_sum = 500, in = 300, out = 200;
  init::xavier_uniform_(w, 2, &g);
  EXPECT_LE(largest(w), 2 * std::sqrt(6 / fan_sum));
  EXPECT_NEAR(deviation(w), 2 * std::sqrt(2 / fan_sum), 2e-3);
  init::xavier_normal_(w, 1, &g);
  EXPECT_NEAR(deviation(w), std::sqrt(2 / fan_sum), 1e-3);
  init::kaiming_uniform_(w, {.nonlinearity = init::Nonlinearity::relu}, &g);
  EXPECT_LE(largest(w), std::sqrt(6 / in));
  EXPECT_NEAR(deviation(w), std::sqrt(2 / in), 1e-3);
  init::kaiming_normal_(w, {.mode = init::FanMode::out, .nonlinearity = init::Nonlinearity::linear}, &g);
  EXPECT_NEAR(deviation(w), std::sqrt(1 / out), 1e-3);
  init::normal_(w, 3, 0.5, &g);
  EXPECT_NEAR(average(w), 3, 0.02);
  EXPECT_NEAR(deviation(w), 0.5, 0.01);
  init::constant_(w, 7);
  EXPECT_EQ(largest(w - 7.0), 0);
  EXPECT_EQ(largest(init::zeros_(w)), 0);
  EXPECT_EQ(largest(init::ones_(w) - 1.0), 0);
}

TEST(Init, TruncatedNormalKeepsToItsRangeAndMoments) {
  Generator g(4);
  const Tensor x = empty({100'000}, kF64);
  init::trunc_normal_(x, 0, 1, -1, 2, &g);
  EXPECT_GE(min(x).item<double>(), -1);
  EXPECT_LE(max(x).item<double>(), 2);
  // Moments of a standard normal cut to [a, b]: (phi(a) - phi(b)) / Z and 1 + (a phi(a) - b phi(b)) / Z - mean^2.
  const auto phi = [](double t) { return std::exp(-t * t / 2) / std::sqrt(2 * M_PI); };
  const double z = (std::erf(2 / M_SQRT2) - std::erf(-1 / M_SQRT2)) / 2;
  const double mean_wanted = (phi(-1) - phi(2)) / z;
  EXPECT_NEAR(average(x), mean_wanted, 0.01);
  EXPECT_NEAR(var(x).item<double>(), 1 + (-phi(-1) - 2 * phi(2)) / z - mean_wanted * mean_wanted, 0.01);
  // The share below a point is the distribution function's, out in the tail too.
  const double below = sum(x < -0.9).to(DType::f64).item<double>() / 100'000;
  EXPECT_NEAR(below, (std::erf(-0.9 / M_SQRT2) - std::erf(-1 / M_SQRT2)) / 2 / z, 0.002);
  init::trunc_normal_(x, 0, 1, 40, 41, &g);  // where the distribution has no mass that a double could hold
  EXPECT_GE(min(x).item<double>(), 40);
  EXPECT_LE(max(x).item<double>(), 41);
}

TEST(Init, OrthogonalRowsOrColumns) {
  Generator g(5);
  for (const Shape& shape : {Shape{70, 90}, Shape{90, 70}, Shape{33, 33}, Shape{4, 3, 5}, Shape{1, 7}}) {
    SCOPED_TRACE(shape.to_string());
    const Tensor w = empty(shape, kF64);
    init::orthogonal_(w, 3, &g);
    const Tensor m = w.reshape({shape[0], w.numel() / shape[0]}) / 3.0;
    const bool wide = m.size(0) <= m.size(1);
    const Tensor product = wide ? matmul(m, m.transpose(0, 1)) : matmul(m.transpose(0, 1), m);
    EXPECT_LT(largest(product - eye(product.size(0), -1, kF64)), 1e-13);
  }
}

TEST(Init, TheGeneratorDecidesAndParametersMayRequireGrad) {
  for (const auto fill : {+[](const Tensor&x, Generator*g) { init::trunc_normal_(x, 0, 1, -2, 2, g); },
                          +[](const Tensor&x, Generator*g) { init::orthogonal_(x, 1, g); },
                          +[](const Tensor&x, Generator*g) { init::kaiming_uniform_(x, {}, g); }}) {
    Generator a(9), b(9);
    const Tensor x = empty({6, 4}, {.requires_grad = true}), y = empty({6, 4}, {.requires_grad = true});
    fill(x, &a);
    fill(y, &b);
    EXPECT_EQ(x.to_doubles(), y.to_doubles());
    EXPECT_TRUE(x.is_leaf());
  }
}

TEST(Init, Errors) {
  const Tensor x = zeros({2, 2});
  EXPECT_THAT(message_of<ConfigError>([&] { init::normal_(x, 0, -1); }), HasSubstr("std is -1"));
  EXPECT_THAT(message_of<ConfigError>([&] { init::uniform_(x, 2, 1); }), HasSubstr("from 2 to 1"));
  EXPECT_THAT(message_of<ConfigError>([&] { init::trunc_normal_(x, 0, 1, 1, 1); }), HasSubstr("from 1 to 1"));
  EXPECT_THAT(message_of<ShapeError>([] { init::orthogonal_(zeros({4})); }), HasSubstr("[4]"));
}

}  // namespace
}  // namespace trinix::nn
