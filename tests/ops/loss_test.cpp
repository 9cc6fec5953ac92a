#include "op_case.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace trinix::testing {
namespace {

using Reduction = CrossEntropyOptions::Reduction;

Array naive_cross_entropy(const Array& x, const std::vector<std::int64_t>& targets, const CrossEntropyOptions& o) {
  const auto classes = static_cast<std::size_t>(x.size(-1));
  std::vector<double> losses;
  double total = 0;
  double count = 0;
  for (std::size_t row = 0; row < targets.size(); ++row) {
    const double* v = x.values.data() + row * classes;
    double max = -std::numeric_limits<double>::infinity(), sum = 0, mean = 0;
    for (std::size_t j = 0; j < classes; ++j) max = std::max(max, v[j]);
    for (std::size_t j = 0; j < classes; ++j) sum += std::exp(v[j] - max);
    for (std::size_t j = 0; j < classes; ++j) mean += v[j] / static_cast<double>(classes);
    const double lse = max + std::log(sum);
    double loss = 0;
    if (targets[row] != o.ignore_index) {
      loss = lse - (1 - o.label_smoothing) * v[targets[row]] - o.label_smoothing * mean;
      ++count;
    }
    losses.push_back(loss);
    total += loss;
  }
  if (o.reduction == Reduction::none) {
    Shape shape = x.shape;
    shape.erase(shape.size() - 1);
    return {shape, losses};
  }
  return {{}, {o.reduction == Reduction::mean && count > 0 ? total / count : total}};
}

std::vector<OpCase> loss_cases() {
  std::vector<OpCase> list;
  for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
    for (const double smoothing : {0.0, 0.1}) {
      // 2500 classes are more than one piece of a row.
      for (const Shape& shape : {Shape{2, 3, 11}, Shape{4, 65}, Shape{2, 2500}}) {
        const CrossEntropyOptions options{.ignore_index = 2, .label_smoothing = smoothing, .reduction = reduction};
        const std::int64_t classes = shape.back();
        std::vector<std::int64_t> targets;
        for (std::int64_t i = 0; i < numel(shape) / classes; ++i) targets.push_back((i * 7 + 2) % classes);
        Shape rows = shape;
        rows.erase(rows.size() - 1);
        const bool large = classes > 1000;
        list.push_back(
            {.name = "cross_entropy",
             .inputs = {shape},
             .function =
                 [=](const std::vector<Tensor>& x, KernelChoice kernel) {
                   return cross_entropy(x[0], from_vector(targets, rows, {.device = x[0].device()}), options, kernel);
                 },
             .reference = [=](const std::vector<Array>& x) { return naive_cross_entropy(x[0], targets, options); },
             .low = -6,
             .high = 6,
             .has_kernels = true,
             .dtypes = large ? std::vector{DType::f32, DType::bf16}
                             : std::vector{DType::f64, DType::f32, DType::bf16, DType::f16}});
      }
    }
  }
  list.push_back({.name = "mse_loss",
                  .inputs = {{3, 5}, {3, 5}},
                  .function = [](const auto& x, KernelChoice) { return mse_loss(x[0], x[1]); },
                  .reference =
                      [](const std::vector<Array>& x) {
                        double sum = 0;
                        for (std::size_t i = 0; i < 15; ++i) sum += (x[0][i] - x[1][i]) * (x[0][i] - x[1][i]);
                        return Array{{}, {sum / 15}};
                      },
                  // The result is rounded to the dtype after a sum of squares.
                  .layouts = {Layout::contiguous, Layout::transposed, Layout::sliced}});
  return list;
}

class Loss : public ::testing::TestWithParam<OpCase> {};
TEST_P(Loss, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, Loss, ::testing::ValuesIn(loss_cases()),
                         [](const auto& info) { return info.param.name + "_" + std::to_string(info.index); });

class CrossEntropyOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, CrossEntropyOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(CrossEntropyOnDevice, EveryTargetIgnoredGivesZeroAndZeroGradients) {
  for (const Kernel kernel : {Kernel::automatic, Kernel::reference}) {
    Tensor x = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3}).requires_grad_();
    const Tensor loss = cross_entropy(x, full({2}, -100, {DType::i64}), {}, kernel);
    EXPECT_EQ(loss.item<float>(), 0.0F);
    loss.backward();
    EXPECT_EQ(x.grad().to_vector<float>(), std::vector<float>(6, 0.0F));
  }
}

TEST_P(CrossEntropyOnDevice, HugeLogitsStayFinite) {
  for (const Kernel kernel : {Kernel::automatic, Kernel::reference}) {
    for (const double smoothing : {0.0, 0.1}) {
      Tensor x = from_vector<float>({1e30F, -1e30F, 0, -1e30F, 1e30F, 0}, {2, 3}).requires_grad_();
      const Tensor loss = cross_entropy(x, from_vector<std::int64_t>({0, 0}), {.label_smoothing = smoothing}, kernel);
      EXPECT_TRUE(std::isfinite(loss.item<float>()));
      loss.backward();
      for (const float g : x.grad().to_vector<float>()) EXPECT_TRUE(std::isfinite(g));
    }
  }
  Tensor x = from_vector<float>({1e30F, -1e30F, 0}, {1, 3});
  EXPECT_EQ(cross_entropy(x, from_vector<std::int64_t>({0})).item<float>(), 0.0F);
}

TEST_P(CrossEntropyOnDevice, MaskedClassesHaveNoProbability) {
  const float none = -std::numeric_limits<float>::infinity();
  Tensor x = from_vector<float>({none, 1, 1}, {1, 3}).requires_grad_();
  const Tensor loss = cross_entropy(x, from_vector<std::int64_t>({1}));
  EXPECT_NEAR(loss.item<float>(), std::log(2.0), 1e-6);
  loss.backward();
  const auto g = x.grad().to_vector<float>();
  EXPECT_EQ(g[0], 0.0F);
  EXPECT_NEAR(g[1], -0.5, 1e-6);
}

TEST_P(CrossEntropyOnDevice, TheLossOfNarrowLogitsIsWideAndIndicesMayBe32Bit) {
  const Tensor x = from_vector<float>({1, 2, 3}, {1, 3}).to(DType::bf16);
  const Tensor loss = cross_entropy(x, from_vector<std::int32_t>({2}));
  EXPECT_EQ(loss.dtype(), DType::f32);
  EXPECT_NEAR(loss.item<float>(), 0.4076059, 1e-6);
  EXPECT_EQ(cross_entropy(x.to(DType::f64), from_vector<std::int32_t>({2})).dtype(), DType::f64);
}

TEST_P(CrossEntropyOnDevice, MistakesAreExplained) {
  const auto message = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return e.what();
    }
    return "no exception";
  };
  const Tensor x = zeros({2, 3, 5});
  // A card finds bad targets when nobody waits for them; it tells at the next synchronisation.
  const std::string where = device().is_cpu() ? "at [1, 1]" : "at position 4";
  EXPECT_EQ(message([&] {
              static_cast<void>(cross_entropy(x, from_vector<std::int64_t>({0, 1, 2, 3, 5, 4}, {2, 3})));
              synchronize(device());
            }).substr(0, 100 + where.size()),
            "[cross_entropy] target 5 " + where +
                " is not in [0, 5), the classes of the logits, nor is it ignore_index (-100)");
  EXPECT_THROW(
      {
        static_cast<void>(cross_entropy(x, full({2, 3}, -1, {DType::i64})));
        synchronize(device());
      },
      IndexError);
  EXPECT_EQ(message([&] {
              static_cast<void>(cross_entropy(x, zeros({2, 5}, {DType::i64})));
            }),
            "[cross_entropy] logits of shape [2, 3, 5] and targets of shape [2, 5] do not fit: for targets (...) the "
            "logits must be (..., V) with V > 0");
  EXPECT_EQ(message([&] {
              static_cast<void>(cross_entropy(x, zeros({2, 3})));
            }),
            "[cross_entropy] the targets are f32 of shape [2, 3]; class indices must be i64 or i32");
  EXPECT_EQ(message([&] {
              static_cast<void>(cross_entropy(x, zeros({2, 3}, {DType::i64}), {.label_smoothing = 1.5}));
            }),
            "[cross_entropy] label_smoothing is 1.5; it must be in [0, 1)");
  EXPECT_EQ(message([] {
              static_cast<void>(mse_loss(zeros({2, 3}), zeros({3})));
            }),
            "[mse_loss] shapes [2, 3] and [3] differ; broadcasting here would hide a mistake, so expand() one of them "
            "if that is meant");
}

}  // namespace
}  // namespace trinix::testing
