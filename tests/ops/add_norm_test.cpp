// add_layer_norm and add_rms_norm: the residual addition in one pass with the norm, with and without dropout of the
// branch.
#include "naive_norm.h"

#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

std::pair<Tensor, Tensor> add_norm(Centre about, const std::vector<Tensor>& x, KernelChoice kernel = {},
                                   BranchDropout dropout = {}) {
  const Tensor w = x.size() > 2 ? x[2] : Tensor(), b = x.size() > 3 ? x[3] : Tensor();
  return about == Centre::mean ? add_layer_norm(x[0], x[1], w, b, kEps, kernel, dropout)
                               : add_rms_norm(x[0], x[1], w, b, kEps, kernel, dropout);
}

Array naive_add_norm(Centre about, const Array& sum, const std::vector<Array>& x) {
  return naive_norm(sum, about, x.size() > 2 ? &x[2] : nullptr, x.size() > 3 ? &x[3] : nullptr, kEps);
}

/// The sum and its norm are both used, with different gradients.
OpCase both_case(const std::string& op, Centre about, std::vector<Shape> inputs) {
  return {.name = op,
          .inputs = std::move(inputs),
          .function =
              [=](const std::vector<Tensor>& x, KernelChoice kernel) {
                const auto [sum, y] = add_norm(about, x, kernel);
                return cat({sum, y}, -1);
              },
          .reference =
              [=](const std::vector<Array>& x) {
                const Array sum = naive_sum(x[0], x[1]);
                return side_by_side(sum, naive_add_norm(about, sum, x));
              },
          .has_kernels = true,
          .layouts = without_repeats()};
}

/// Which elements dropout keeps, times their factor: from dropout itself, whose own tests look after it.
std::vector<double> mask_of(std::int64_t count, double p, std::uint64_t seed) {
  Generator g(seed);
  return dropout(ones({count}, {DType::f64}), p, &g).to_doubles();
}

OpCase dropped_case(const std::string& op, Centre about, std::vector<Shape> inputs, double p) {
  OpCase c = both_case(op + "_dropout", about, std::move(inputs));
  c.function = [=](const std::vector<Tensor>& x, KernelChoice kernel) {
    Generator g(3);
    const auto [sum, y] = add_norm(about, x, kernel, {.p = p, .generator = &g});
    return cat({sum, y}, -1);
  };
  c.reference = [=](const std::vector<Array>& x) {
    const auto mask = mask_of(static_cast<std::int64_t>(x[1].values.size()), p, 3);
    Array branch = x[1];
    for (std::size_t i = 0; i < mask.size(); ++i) branch[i] *= mask[i];
    const Array sum = naive_sum(x[0], branch);
    return side_by_side(sum, naive_add_norm(about, sum, x));
  };
  return c;
}

std::vector<OpCase> add_norm_cases() {
  std::vector<OpCase> list;
  for (const Centre about : {Centre::mean, Centre::zero}) {
    const std::string op = about == Centre::mean ? "add_layer_norm" : "add_rms_norm";
    list.push_back(both_case(op, about, {{3, 4, 21}, {3, 4, 21}, {21}, {21}}));
    list.push_back(both_case(op + "_plain", about, {{6, 40}, {6, 40}}));
    list.push_back(dropped_case(op, about, {{3, 4, 21}, {3, 4, 21}, {21}, {21}}, 0.4));
    // Rows of every length class, as in norm_test.cpp.
    for (const auto& [rows, columns] :
         {std::pair{20, 384}, {9, 1024}, {3, 2056}, {2, 6000}, {2, 16384}, {2, 17000}, {9, 777}, {2300, 64}}) {
      const std::vector<Shape> inputs = {{rows, columns}, {rows, columns}, {columns}};
      list.push_back(both_case(op + "_long", about, inputs));
      list.push_back(dropped_case(op + "_long", about, inputs, 0.2));
      for (std::size_t i = list.size() - 2; i < list.size(); ++i) {
        list[i].dtypes = {DType::f32, DType::bf16};
        list[i].layouts = {Layout::contiguous};
      }
    }
  }
  return list;
}

class AddNorm : public ::testing::TestWithParam<OpCase> {};
TEST_P(AddNorm, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, AddNorm, ::testing::ValuesIn(add_norm_cases()),
                         [](const auto& info) { return info.param.name + "_" + std::to_string(info.index); });

class AddNormOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, AddNormOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(AddNormOnDevice, OnlyTheSumUsed) {
  for (const Centre about : {Centre::mean, Centre::zero}) {
    Tensor x = from_vector<double>({1, 2, 3, 4}, {2, 2}).requires_grad_();
    Tensor branch = from_vector<double>({5, 6, 7, 8}, {2, 2}).requires_grad_();
    Tensor weight = ones({2}, {DType::f64}).requires_grad_();
    sum(add_norm(about, {x, branch, weight}).first).backward();
    EXPECT_EQ(x.grad().to_vector<double>(), std::vector<double>(4, 1.0));
    EXPECT_EQ(branch.grad().to_vector<double>(), std::vector<double>(4, 1.0));
  }
}

TEST_P(AddNormOnDevice, OnlyTheNormUsedAndOnlyOneSideWanted) {
  for (const double p : {0.0, 0.5}) {
    for (const bool x_side : {true, false}) {
      Tensor x = from_vector(random_values(60, 1), {3, 20}).requires_grad_(x_side);
      Tensor branch = from_vector(random_values(60, 2), {3, 20}).requires_grad_(!x_side);
      const Tensor direction = from_vector(random_values(60, 3), {3, 20});
      const auto gradient = [&](Kernel kernel) {
        Generator g(8);
        const Tensor y = add_rms_norm(x, branch, {}, {}, kEps, {kernel}, {.p = p, .generator = &g}).second;
        return grad(y, {x_side ? x : branch}, direction)[0].to_doubles();
      };
      EXPECT_LT(relative_error(gradient(Kernel::automatic), gradient(Kernel::reference)), 1e-12) << p << x_side;
    }
  }
}

/// The same numbers, at the same place of the generator's sequence, as dropout() on the branch.
TEST_P(AddNormOnDevice, DropsWhatDropoutOnTheBranchWouldDrop) {
  const Tensor x = from_vector(random_values(7 * 30, 1), {7, 30}).to(DType::f32);
  const Tensor branch = from_vector(random_values(7 * 30, 2), {7, 30}).to(DType::f32);
  Generator fused(11), apart(11);
  const Tensor sum = add_layer_norm(x, branch, {}, {}, kEps, {}, {.p = 0.3, .generator = &fused}).first;
  const Tensor expected = x + dropout(branch, 0.3, &apart);
  EXPECT_LT(max(abs(sum - expected)).item<float>(), 1e-6F);
  EXPECT_EQ(fused.state().offset, apart.state().offset);
}

TEST_P(AddNormOnDevice, ProbabilitiesAtTheEnds) {
  const Tensor x = from_vector<float>({1, -2, 3, 4}, {1, 4});
  Tensor branch = from_vector<float>({5, 6, 7, 8}, {1, 4}).requires_grad_();
  const auto [none, y] = add_rms_norm(x, branch, {}, {}, kEps, {}, {.p = 1});
  EXPECT_EQ(none.to_vector<float>(), x.to_vector<float>());
  sum(y * y).backward();
  EXPECT_EQ(branch.grad().to_vector<float>(), std::vector<float>(4, 0));
  Generator g(4);
  const auto before = g.state().offset;
  EXPECT_EQ(add_rms_norm(x, branch, {}, {}, kEps, {}, {.p = 0, .generator = &g}).first.to_vector<float>(),
            (std::vector<float>{6, 4, 10, 12}));
  EXPECT_EQ(g.state().offset, before);
}

}  // namespace
}  // namespace trinix::testing
