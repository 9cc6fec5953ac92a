#include "op_case.h"

#include <cmath>
#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

constexpr double kEps = 1e-5;

/// weight and bias may be null.
Array naive_layer_norm(const Array& x, const Array* weight, const Array* bias) {
  Array y = x;
  const auto n = static_cast<std::size_t>(x.size(-1));
  for (std::size_t row = 0; row < x.values.size(); row += n) {
    double mean = 0, var = 0;
    for (std::size_t i = 0; i < n; ++i) mean += x[row + i] / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i) var += (x[row + i] - mean) * (x[row + i] - mean) / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i) {
      y[row + i] = (x[row + i] - mean) / std::sqrt(var + kEps);
      if (weight != nullptr) y[row + i] *= (*weight)[i];
      if (bias != nullptr) y[row + i] += (*bias)[i];
    }
  }
  return y;
}

std::vector<OpCase> cases() {
  std::vector<OpCase> list;
  // Rows made of one value, and gradients that nearly cancel over repeated elements, have no meaningful relative error.
  const std::vector<Layout> dense = {Layout::contiguous, Layout::transposed, Layout::sliced};
  const auto add = [&](const char* name, std::vector<Shape> inputs, bool weight, bool bias) {
    list.push_back({.name = name,
                    .inputs = std::move(inputs),
                    .function =
                        [=](const std::vector<Tensor>& x, KernelChoice kernel) {
                          return layer_norm(x[0], weight ? x[1] : Tensor(), bias ? x.back() : Tensor(), kEps, kernel);
                        },
                    .reference =
                        [=](const std::vector<Array>& x) {
                          return naive_layer_norm(x[0], weight ? &x[1] : nullptr, bias ? &x.back() : nullptr);
                        },
                    .has_kernels = true,
                    .layouts = dense});
  };
  add("layer_norm", {{3, 4, 33}, {33}, {33}}, true, true);
  add("layer_norm", {{50, 16}, {16}, {16}}, true, true);
  add("layer_norm", {{7}, {7}, {7}}, true, true);
  add("layer_norm_weight", {{5, 19}, {19}}, true, false);
  add("layer_norm_bias", {{5, 19}, {19}}, false, true);
  add("layer_norm_plain", {{5, 19}}, false, false);
  // Rows of every length class of the kernels, aligned and not; more rows than are worked on at a time.
  for (const auto& [rows, columns] : {std::pair{19, 200},
                                      {20, 384},
                                      {11, 768},
                                      {9, 1024},
                                      {5, 1600},
                                      {3, 3072},
                                      {2, 6000},
                                      {9, 777},
                                      {3, 3001},
                                      {2, 7001},
                                      {5003, 64}}) {
    add("layer_norm_long", {{rows, columns}, {columns}, {columns}}, true, true);
    list.back().dtypes = {DType::f32, DType::bf16, DType::f16};
    list.back().layouts = {Layout::contiguous};
  }
  // The sum and its norm are both used, with different gradients.
  list.push_back({.name = "add_layer_norm",
                  .inputs = {{3, 4, 21}, {3, 4, 21}, {21}, {21}},
                  .function =
                      [](const std::vector<Tensor>& x, KernelChoice kernel) {
                        const auto [sum, y] = add_layer_norm(x[0], x[1], x[2], x[3], kEps, kernel);
                        return cat({sum, y}, -1);
                      },
                  .reference =
                      [](const std::vector<Array>& x) {
                        Array sum = x[0];
                        for (std::size_t i = 0; i < sum.values.size(); ++i) sum[i] += x[1][i];
                        const Array y = naive_layer_norm(sum, &x[2], &x[3]);
                        Array both{sum.shape, {}};
                        const auto n = static_cast<std::size_t>(sum.size(-1));
                        both.shape[both.shape.size() - 1] *= 2;
                        for (std::size_t row = 0; row < sum.values.size(); row += n) {
                          for (const Array* part : {&std::as_const(sum), &y}) {
                            for (std::size_t i = 0; i < n; ++i) both.values.push_back((*part)[row + i]);
                          }
                        }
                        return both;
                      },
                  .has_kernels = true,
                  .layouts = dense});
  list.push_back(
      {.name = "add_layer_norm_only_norm",
       .inputs = {{6, 40}, {6, 40}},
       .function = [](const std::vector<Tensor>& x,
                      KernelChoice kernel) { return add_layer_norm(x[0], x[1], {}, {}, kEps, kernel).second; },
       .reference =
           [](const std::vector<Array>& x) {
             Array sum = x[0];
             for (std::size_t i = 0; i < sum.values.size(); ++i) sum[i] += x[1][i];
             return naive_layer_norm(sum, nullptr, nullptr);
           },
       .has_kernels = true});
  list.push_back({.name = "layer_norm_repeated",
                  .inputs = {{4, 3, 33}, {33}},
                  .function = [](const std::vector<Tensor>& x,
                                 KernelChoice kernel) { return layer_norm(x[0], x[1], {}, kEps, kernel); },
                  .reference = [](const std::vector<Array>& x) { return naive_layer_norm(x[0], &x[1], nullptr); },
                  .has_kernels = true,
                  .dtypes = {DType::f64, DType::f32},
                  .layouts = {Layout::broadcast}});
  return list;
}

class Norm : public ::testing::TestWithParam<OpCase> {};
TEST_P(Norm, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, Norm, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name + "_" + std::to_string(info.index); });

class LayerNormOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, LayerNormOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(LayerNormOnDevice, OnlyTheSumUsed) {
  Tensor x = from_vector<double>({1, 2, 3, 4}, {2, 2}).requires_grad_();
  Tensor branch = from_vector<double>({5, 6, 7, 8}, {2, 2}).requires_grad_();
  Tensor weight = ones({2}, {DType::f64}).requires_grad_();
  sum(add_layer_norm(x, branch, weight).first).backward();
  EXPECT_EQ(x.grad().to_vector<double>(), std::vector<double>(4, 1.0));
  EXPECT_EQ(branch.grad().to_vector<double>(), std::vector<double>(4, 1.0));
}

TEST_P(LayerNormOnDevice, NoRowsGiveZeroGradients) {
  Tensor weight = ones({4}).requires_grad_();
  Tensor bias = ones({4}).requires_grad_();
  const Tensor y = layer_norm(zeros({0, 4}), weight, bias);
  y.backward(ones_like(y));
  EXPECT_EQ(weight.grad().to_doubles(), std::vector<double>(4, 0));
  EXPECT_EQ(bias.grad().to_doubles(), std::vector<double>(4, 0));
}

TEST_P(LayerNormOnDevice, AConstantRowGivesTheBiasAndALargeOffsetKeepsItsDigits) {
  const Tensor bias = from_vector<float>({1, 2, 3, 4});
  EXPECT_EQ(layer_norm(full({1, 4}, 7.0F), ones({4}), bias).to_vector<float>(), (std::vector<float>{1, 2, 3, 4}));
  // With the one-pass formula the variance of these would be lost.
  const std::vector<float> y = layer_norm(from_vector<float>({10000, 10001, 10002, 10003}, {1, 4})).to_vector<float>();
  const double sd = std::sqrt(1.25 + kEps);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(y[static_cast<std::size_t>(i)], (i - 1.5) / sd, 1e-5);
}

TEST(LayerNorm, TheGradientDoesNotDependOnTheNumberOfThreads) {
  const auto gradient = [](int threads) {
    set_num_threads(threads);
    Tensor w = ones({64}).requires_grad_();
    const Tensor x = from_vector(random_values(2000 * 64, 5), {2000, 64}).to(DType::f32);
    sum(square(layer_norm(x, w))).backward();
    set_num_threads(0);
    return w.grad().to_vector<float>();
  };
  EXPECT_EQ(gradient(1), gradient(3));
}

TEST(LayerNorm, MistakesAreExplained) {
  const auto message = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return e.what();
    }
    return "no exception";
  };
  EXPECT_EQ(message([] {
              static_cast<void>(layer_norm(zeros({2, 3}), zeros({4})));
            }),
            "[layer_norm] the weight has shape [4], but the last dim of the input of shape [2, 3] asks for [3]");
  EXPECT_EQ(message([] {
              static_cast<void>(layer_norm(zeros({2, 3}), {}, zeros({3}, {DType::f64})));
            }),
            "[layer_norm] the input is f32, but the bias is f64; convert one with to()");
  EXPECT_EQ(message([] {
              static_cast<void>(layer_norm(zeros({2, 3}, {DType::i64})));
            }),
            "[layer_norm] takes floating-point tensors, got i64 of shape [2, 3]; convert it with to()");
  EXPECT_EQ(message([] {
              static_cast<void>(add_layer_norm(zeros({2, 3}), zeros({3})));
            }),
            "[add_layer_norm] x has shape [2, 3], the branch [3]; they must be equal");
}

}  // namespace
}  // namespace trinix::testing
