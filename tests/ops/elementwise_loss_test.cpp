#include "op_case.h"
#include "support/errors.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

namespace trinix::testing {
namespace {

using ::testing::HasSubstr;

constexpr double kInf = std::numeric_limits<double>::infinity();

/// The sum of f(a_i, b_i) over the elements, divided by `divisor`.
template <class F>
std::function<Array(const std::vector<Array>&)> total(F f, double divisor) {
  return [=](const std::vector<Array>& x) {
    double sum = 0;
    for (std::size_t i = 0; i < x[0].values.size(); ++i) sum += f(x[0][i], x[1][i]);
    return Array{{}, {sum / divisor}};
  };
}

double bce(double x, double y, double weight) {
  const double p = 1 / (1 + std::exp(-x));
  return -(weight * y * std::log(p) + (1 - y) * std::log(1 - p));
}

/// Makes the second input's values probabilities.
void squash(std::size_t input, std::vector<double>& values) {
  if (input == 0) return;
  for (double& v : values) v = std::abs(v) / 2.5 + 0.05;
}

std::vector<OpCase> elementwise_loss_cases() {
  // The losses are f32 or wider, computed from inputs rounded to the dtype.
  const std::vector<Layout> layouts = {Layout::contiguous, Layout::transposed, Layout::sliced};
  std::vector<OpCase> list;
  list.push_back({.name = "mse_sum",
                  .inputs = {{3, 5}, {3, 5}},
                  .function = [](const auto& x, KernelChoice) { return mse_loss(x[0], x[1], LossReduction::sum); },
                  .reference = total([](double a, double b) { return (a - b) * (a - b); }, 1),
                  .layouts = layouts});
  list.push_back({.name = "bce_with_logits",
                  .inputs = {{3, 5}, {3, 5}},
                  .function = [](const auto& x, KernelChoice) { return bce_with_logits(x[0], x[1]); },
                  .reference = total([](double x, double y) { return bce(x, y, 1); }, 15),
                  .layouts = layouts,
                  .prepare = squash});
  list.push_back({.name = "bce_with_logits_weighted",
                  .inputs = {{3, 5}, {3, 5}},
                  .function =
                      [](const auto& x, KernelChoice) {
                        const Tensor weight = full({5}, 3.0, {DType::f32, x[0].device()});
                        return bce_with_logits(x[0], x[1], {.pos_weight = weight, .reduction = LossReduction::sum});
                      },
                  .reference = total([](double x, double y) { return bce(x, y, 3); }, 1),
                  .layouts = layouts,
                  .prepare = squash});
  const auto kl = [](double q, double p) { return p * (std::log(p) - q); };
  list.push_back({.name = "kl_div",
                  .inputs = {{3, 5}, {3, 5}},
                  .function = [](const auto& x, KernelChoice) { return kl_div(x[0], x[1]); },
                  .reference = total(kl, 3),
                  .layouts = layouts,
                  .prepare = squash});
  list.push_back({.name = "kl_div_log_target",
                  .inputs = {{3, 5}, {3, 5}},
                  .function =
                      [](const auto& x, KernelChoice) {
                        return kl_div(x[0], x[1], {.log_target = true, .reduction = KlDivOptions::Reduction::mean});
                      },
                  .reference = total([=](double q, double t) { return kl(q, std::exp(t)); }, 15),
                  .layouts = layouts});
  return list;
}

class ElementwiseLoss : public ::testing::TestWithParam<OpCase> {};
TEST_P(ElementwiseLoss, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, ElementwiseLoss, ::testing::ValuesIn(elementwise_loss_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(BceWithLogits, IsExactForLargeLogits) {
  const Tensor x = from_vector<double>({1e4, -1e4, 1e4, -1e4, 30}, TensorOptions{.requires_grad = true});
  const Tensor y = from_vector<double>({1, 0, 0, 1, 1});
  const Tensor loss = bce_with_logits(x, y, {.reduction = LossReduction::none});
  EXPECT_EQ(loss.to_doubles(), (std::vector<double>{0, 0, 1e4, 1e4, std::log1p(std::exp(-30.0))}));
  sum(loss).backward();
  const auto grad = x.grad().to_doubles();
  EXPECT_EQ(std::vector<double>(grad.begin(), grad.begin() + 4), (std::vector<double>{0, 0, 1, -1}));
  EXPECT_NEAR(grad[4] / -std::exp(-30.0), 1, 1e-9);
}

TEST(KlDiv, AClassThatDoesNotOccurAddsNothing) {
  const Tensor q = from_vector<double>({std::log(0.25), std::log(0.75), -kInf}, {1, 3}, {.requires_grad = true});
  const Tensor loss = kl_div(q, from_vector<double>({0.25, 0.75, 0}, {1, 3}));
  EXPECT_NEAR(loss.item<double>(), 0, 1e-16);
  loss.backward();
  EXPECT_EQ(q.grad().to_doubles(), (std::vector<double>{-0.25, -0.75, 0}));
}

TEST(ElementwiseLoss, Errors) {
  EXPECT_THAT(message_of<ShapeError>([] {
                (void)bce_with_logits(zeros({2, 3}), zeros({3}));
              }),
              HasSubstr("[bce_with_logits] shapes [2, 3] and [3] differ"));
  EXPECT_THAT(message_of<ShapeError>([] { (void)kl_div(zeros({2}), zeros({3})); }), HasSubstr("[kl_div]"));
  EXPECT_THROW((void)bce_with_logits(zeros({2}), zeros({2}, {DType::i64})), DtypeError);
}

}  // namespace
}  // namespace trinix::testing
