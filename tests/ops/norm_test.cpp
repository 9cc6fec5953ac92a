// layer_norm and rms_norm: values and gradients over all row lengths that kernels tell apart.
#include "naive_norm.h"

#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

Tensor norm(Centre about, const Tensor& x, const Tensor& weight, const Tensor& bias, KernelChoice kernel) {
  return about == Centre::mean ? layer_norm(x, weight, bias, kEps, kernel) : rms_norm(x, weight, bias, kEps, kernel);
}

OpCase norm_case(std::string name, Centre about, std::vector<Shape> inputs, bool weight, bool bias) {
  return {.name = std::move(name),
          .inputs = std::move(inputs),
          .function =
              [=](const std::vector<Tensor>& x, KernelChoice kernel) {
                return norm(about, x[0], weight ? x[1] : Tensor(), bias ? x.back() : Tensor(), kernel);
              },
          .reference =
              [=](const std::vector<Array>& x) {
                return naive_norm(x[0], about, weight ? &x[1] : nullptr, bias ? &x.back() : nullptr, kEps);
              },
          .has_kernels = true,
          .layouts = without_repeats()};
}

std::vector<OpCase> norm_cases() {
  std::vector<OpCase> list;
  for (const Centre about : {Centre::mean, Centre::zero}) {
    const std::string op = about == Centre::mean ? "layer_norm" : "rms_norm";
    list.push_back(norm_case(op, about, {{3, 4, 33}, {33}, {33}}, true, true));
    list.push_back(norm_case(op, about, {{50, 16}, {16}, {16}}, true, true));
    list.push_back(norm_case(op, about, {{7}, {7}, {7}}, true, true));
    list.push_back(norm_case(op + "_weight", about, {{5, 19}, {19}}, true, false));
    list.push_back(norm_case(op + "_bias", about, {{5, 19}, {19}}, false, true));
    list.push_back(norm_case(op + "_plain", about, {{5, 19}}, false, false));
    // Rows of every length class of the kernels, aligned and not; more rows than are worked on at a time.
    for (const auto& [rows, columns] : {std::pair{19, 200},
                                        {20, 384},
                                        {11, 768},
                                        {9, 1024},
                                        {5, 1600},
                                        {3, 3072},
                                        {3, 4096},
                                        {3, 5000},
                                        {2, 6000},
                                        {3, 9000},
                                        {2, 16384},
                                        {2, 17000},
                                        {9, 777},
                                        {3, 3001},
                                        {2, 17001},
                                        {2300, 64},
                                        {301, 1288},
                                        {290, 1024},
                                        {140, 8200}}) {
      list.push_back(norm_case(op + "_long", about, {{rows, columns}, {columns}, {columns}}, true, true));
      list.back().dtypes = {DType::f32, DType::bf16, DType::f16};
      if (rows > 100) list.back().dtypes = {columns < 100 ? DType::f32 : DType::bf16};  // for the loop over rows
      list.back().layouts = {Layout::contiguous};
    }
  }
  list.push_back(norm_case("rms_norm_long_weight", Centre::zero, {{37, 512}, {512}}, true, false));
  list.back().dtypes = {DType::f32, DType::bf16};
  list.back().layouts = {Layout::contiguous};
  list.push_back(norm_case("layer_norm_repeated", Centre::mean, {{4, 3, 33}, {33}}, true, false));
  list.back().dtypes = {DType::f64, DType::f32};
  list.back().layouts = {Layout::broadcast};
  return list;
}

class Norm : public ::testing::TestWithParam<OpCase> {};
TEST_P(Norm, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, Norm, ::testing::ValuesIn(norm_cases()),
                         [](const auto& info) { return info.param.name + "_" + std::to_string(info.index); });

}  // namespace
}  // namespace trinix::testing
