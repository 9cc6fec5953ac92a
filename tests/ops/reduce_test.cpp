#include "op_case.h"
#include "support/errors.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace trinix::testing {
namespace {

/// Collects the elements of each output and folds them, with plain index arithmetic.
Array reduce_naively(const Array& x, const Dims& dims, bool keepdim,
                     const std::function<double(const std::vector<double>&)>& fold) {
  const auto is_reduced = [&](int d) { return dims.empty() || dims.contains(d) || dims.contains(d - x.shape.size()); };
  Shape kept;
  Shape result;
  for (int d = 0; d < x.shape.size(); ++d) {
    kept.push_back(is_reduced(d) ? 1 : x.shape[d]);
    if (keepdim || !is_reduced(d)) result.push_back(kept[d]);
  }
  std::vector<std::vector<double>> groups(static_cast<std::size_t>(numel(kept)));
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    auto rest = static_cast<std::int64_t>(i);
    std::int64_t place = 0;
    std::int64_t step = 1;
    for (int d = x.shape.size() - 1; d >= 0; --d) {
      if (!is_reduced(d)) {
        place += rest % x.shape[d] * step;
        step *= x.shape[d];
      }
      rest /= x.shape[d];
    }
    groups[static_cast<std::size_t>(place)].push_back(x.values[i]);
  }
  Array out{result, {}};
  for (const auto& g : groups) out.values.push_back(fold(g));
  return out;
}

using Fold = double (*)(const std::vector<double>&);

double total(const std::vector<double>& v) {
  double s = 0;
  for (const double x : v) s += x;
  return s;
}

double p_norm(const std::vector<double>& v, double p) {
  double s = 0;
  for (const double x : v) s += std::pow(std::fabs(x), p);
  return std::pow(s, 1 / p);
}

double variance(const std::vector<double>& v, double correction) {
  const double m = total(v) / static_cast<double>(v.size());
  double s = 0;
  for (const double x : v) s += (x - m) * (x - m);
  return s / (static_cast<double>(v.size()) - correction);
}

struct Named {
  const char* name;
  Tensor (*function)(const Tensor&, const Dims&, bool);
  Fold fold;
};

const Named kFunctions[] = {
    {"sum", [](const Tensor& x, const Dims& d, bool k) { return sum(x, d, k); }, total},
    {"mean", [](const Tensor& x, const Dims& d, bool k) { return mean(x, d, k); },
     [](const std::vector<double>& v) { return total(v) / static_cast<double>(v.size()); }},
    {"prod", [](const Tensor& x, const Dims& d, bool k) { return prod(x, d, k); },
     [](const std::vector<double>& v) {
       double p = 1;
       for (const double x : v) p *= x;
       return p;
     }},
    {"max", [](const Tensor& x, const Dims& d, bool k) { return max(x, d, k); },
     [](const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); }},
    {"min", [](const Tensor& x, const Dims& d, bool k) { return min(x, d, k); },
     [](const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }},
    {"var", [](const Tensor& x, const Dims& d, bool k) { return var(x, d, 1, k); },
     [](const std::vector<double>& v) { return variance(v, 1); }},
    {"var_biased", [](const Tensor& x, const Dims& d, bool k) { return var(x, d, 0, k); },
     [](const std::vector<double>& v) { return variance(v, 0); }},
    {"norm_1", [](const Tensor& x, const Dims& d, bool k) { return norm(x, 1, d, k); },
     [](const std::vector<double>& v) { return p_norm(v, 1); }},
    {"norm_2", [](const Tensor& x, const Dims& d, bool k) { return norm(x, 2, d, k); },
     [](const std::vector<double>& v) { return p_norm(v, 2); }},
    {"norm_3", [](const Tensor& x, const Dims& d, bool k) { return norm(x, 3, d, k); },
     [](const std::vector<double>& v) { return p_norm(v, 3); }},
    {"norm_inf", [](const Tensor& x, const Dims& d, bool k) { return norm(x, kInfinity, d, k); },
     [](const std::vector<double>& v) {
       double m = 0;
       for (const double x : v) m = std::max(m, std::fabs(x));
       return m;
     }},
    {"logsumexp", [](const Tensor& x, const Dims& d, bool k) { return logsumexp(x, d, k); },
     [](const std::vector<double>& v) {
       double s = 0;
       for (const double x : v) s += std::exp(x);
       return std::log(s);
     }},
};

struct Geometry {
  const char* name;
  Shape shape;
  Dims dims;
  bool keepdim = false;
};

std::vector<OpCase> reduce_cases() {
  const Geometry geometries[] = {
      {"everything", {3, 5, 7}, {}},     {"last", {5, 37}, {-1}},          {"last_kept", {5, 67}, {1}, true},
      {"first", {37, 19}, {0}},          {"middle", {3, 6, 5}, {1}},       {"outer_two", {3, 4, 17}, {0, 1}},
      {"ends", {3, 5, 4}, {0, 2}, true}, {"narrow_columns", {40, 3}, {0}}, {"narrow_rows", {40, 3}, {1}},
      {"of_size_one", {1, 6}, {0}},
  };
  std::vector<OpCase> list;
  for (const Named& n : kFunctions) {
    const std::string_view f = n.name;
    for (const Geometry& g : geometries) {
      if (g.shape[0] == 1 && f == "var") continue;  // the variance of one element is not a number
      OpCase c{.name = std::string(n.name) + "_" + g.name,
               .inputs = {g.shape},
               .function = [f = n.function, g](const auto& x, KernelChoice) { return f(x[0], g.dims, g.keepdim); },
               .reference = [f = n.fold,
                             g](const std::vector<Array>& in) { return reduce_naively(in[0], g.dims, g.keepdim, f); }};
      if (f == "prod") {
        c.low = 0.9;
        c.high = 1.1;
        c.tolerance = {1e-12, 1e-5, 2e-2, 4e-3};
      }
      if (f == "var" || f == "var_biased" || f == "mean" || f == "sum") c.low = -1.25;
      if (f == "max" || f == "min" || f == "norm_inf") {
        // Distinct magnitudes, also after rounding to 8 bits, so that the function is smooth at the inputs.
        c.prepare = [](std::size_t, std::vector<double>& values) {
          for (std::size_t i = 0; i < values.size(); ++i) {
            const auto k = static_cast<double>(i * 101 % values.size());
            values[i] = (0.5 + k / 64) * (i % 2 == 0 ? 1 : -1);
          }
        };
        // A repeated slice has ties everywhere: those have tests of their own.
        c.layouts = {Layout::contiguous, Layout::transposed, Layout::sliced};
        if (numel(g.shape) > 64) c.dtypes = {DType::f64, DType::f32, DType::f16};
      }
      if (f.starts_with("var") && (g.dims.empty() || g.dims[0] == 0)) {
        // The variance along a repeated dim is 0, with rounding for its only value.
        c.layouts = {Layout::contiguous, Layout::transposed, Layout::sliced};
      }
      if (f == "norm_1" || f == "norm_3") {
        c.prepare = [](std::size_t, std::vector<double>& values) {
          for (double& v : values) v += v < 0 ? -0.2 : 0.2;
        };
      }
      list.push_back(c);
    }
  }
  for (const int dim : {0, 1, -1}) {
    list.push_back({.name = "cumsum_" + std::string(dim < 0 ? "last" : std::to_string(dim)),
                    .inputs = {{4, 21, 5}},
                    .function = [dim](const auto& x, KernelChoice) { return cumsum(x[0], dim); },
                    .reference =
                        [dim](const std::vector<Array>& in) {
                          Array out = in[0];
                          const auto step =
                              static_cast<std::size_t>(contiguous_strides(out.shape)[dim < 0 ? dim + 3 : dim]);
                          const auto n = static_cast<std::size_t>(out.size(dim));
                          for (std::size_t i = 0; i < out.values.size(); ++i) {
                            if (i / step % n > 0) out[i] += out[i - step];
                          }
                          return out;
                        },
                    .low = -1.25});
  }
  return list;
}

class ReduceOps : public ::testing::TestWithParam<OpCase> {};
TEST_P(ReduceOps, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, ReduceOps, ::testing::ValuesIn(reduce_cases()),
                         [](const auto& info) { return info.param.name; });

class ReduceOnDevice : public OnDevice {
 protected:
  void TearDown() override { note_kernels_run(); }  // argmax has no OpCase
  static std::vector<double> gradient_of(Tensor (*f)(const Tensor&), const std::vector<double>& x) {
    Tensor in = from_vector(x).requires_grad_();
    sum(f(in)).backward();
    return in.grad().to_doubles();
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, ReduceOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(ReduceOnDevice, TiesShareTheGradientEvenly) {
  const auto max_of = [](const Tensor& x) { return max(x); };
  const auto min_of = [](const Tensor& x) { return min(x); };
  EXPECT_EQ(gradient_of(max_of, {3, 1, 3, 2}), (std::vector<double>{0.5, 0, 0.5, 0}));
  EXPECT_EQ(gradient_of(min_of, {1, 1, 1, 1}), (std::vector<double>{0.25, 0.25, 0.25, 0.25}));
  EXPECT_EQ(gradient_of(max_of, {-kInfinity, -kInfinity}), (std::vector<double>{0.5, 0.5}));
  // A repeated slice: both copies of the largest element are one element of the leaf.
  Tensor x = from_vector<double>({1, 2}, {1, 2}).requires_grad_();
  max(x.expand({3, 2})).backward();
  EXPECT_EQ(x.grad().to_doubles()[1], 1);
}

TEST_P(ReduceOnDevice, NormAtZeroHasNoSlope) {
  EXPECT_EQ(gradient_of([](const Tensor& x) { return norm(x); }, {0, 0, 0}), (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(gradient_of([](const Tensor& x) { return norm(x, 1); }, {0, -2, 0}), (std::vector<double>{0, -1, 0}));
  EXPECT_EQ(gradient_of([](const Tensor& x) { return norm(x, 3); }, {0, 0}), (std::vector<double>{0, 0}));
  EXPECT_EQ(gradient_of([](const Tensor& x) { return norm(x, 0.5); }, {0, 0}), (std::vector<double>{0, 0}));
  EXPECT_EQ(gradient_of([](const Tensor& x) { return norm(x); }, {3, 0, 4}), (std::vector<double>{0.6, 0, 0.8}));
}

TEST_P(ReduceOnDevice, NormOfSixteenBitsDoesNotOverflow) {
  // The sum of squares is 6.4e9, far beyond the 65504 of f16.
  const Tensor x = full({64}, 10000, {DType::f16});
  EXPECT_EQ(norm(x).item<float>(), INFINITY);  // 80000 itself is too large
  EXPECT_EQ(norm(full({4}, 10000, {DType::f16})).item<float>(), 20000);
}

TEST_P(ReduceOnDevice, ProductsWithZerosHaveTheRightGradient) {
  const auto product = [](const Tensor& x) { return prod(x); };
  EXPECT_EQ(gradient_of(product, {2, 3, 4}), (std::vector<double>{12, 8, 6}));
  EXPECT_EQ(gradient_of(product, {2, 0, 4}), (std::vector<double>{0, 8, 0}));
  EXPECT_EQ(gradient_of(product, {0, 3, 0}), (std::vector<double>{0, 0, 0}));
  const auto rows = [](const Tensor& x) { return prod(x.reshape({2, 2}), {1}); };
  EXPECT_EQ(gradient_of(rows, {0, 5, 2, 3}), (std::vector<double>{5, 0, 3, 2}));
}

TEST_P(ReduceOnDevice, LogSumExpOfNothingLikely) {
  const auto f = [](const Tensor& x) { return logsumexp(x, {-1}); };
  Tensor x = from_vector<double>({-kInfinity, -kInfinity, 0, -kInfinity, 1e4, 1e4}, {3, 2}).requires_grad_();
  const Tensor y = f(x);
  EXPECT_EQ(y.to_doubles(), (std::vector<double>{-kInfinity, 0, 1e4 + std::log(2.0)}));
  y.backward(ones_like(y));
  EXPECT_EQ(relative_error(x.grad().to_doubles(), {0, 0, 1, 0, 0.5, 0.5}) < 1e-11, true) << x.grad();
  EXPECT_EQ(logsumexp(from_vector<double>({kInfinity, 1})).item<double>(), kInfinity);
}

TEST_P(ReduceOnDevice, NanReachesTheResultWhereverItStands) {
  for (const std::int64_t n : {1, 5, 64, 131, 5000}) {
    for (const std::int64_t at : {std::int64_t{0}, n / 2, n - 1}) {
      const Tensor x = zeros({n});
      fill_(x.select(0, at), kNan);
      for (const Tensor& y : {max(x), min(x), sum(x), mean(x), prod(x), norm(x), logsumexp(x), var(x)}) {
        EXPECT_TRUE(std::isnan(y.item<float>())) << n << " " << at;
      }
      EXPECT_EQ(argmax(x, 0).item<std::int64_t>(), at);
      EXPECT_EQ(argmin(x, 0).item<std::int64_t>(), at);
      // The same as a column among others.
      const Tensor grid = zeros({n, 20});
      fill_(grid.select(0, at).select(0, 7), kNan);
      const auto columns = max(grid, {0}).to_doubles();
      for (std::size_t c = 0; c < columns.size(); ++c) EXPECT_EQ(std::isnan(columns[c]), c == 7);
      EXPECT_EQ(argmax(grid, 0).to_vector<std::int64_t>()[7], at);
      EXPECT_EQ(argmin(grid, 0).to_vector<std::int64_t>()[7], at);
      EXPECT_EQ(argmin(grid, 0).to_vector<std::int64_t>()[8], 0);
    }
  }
}

TEST_P(ReduceOnDevice, OverNothing) {
  const Tensor none = zeros({2, 0, 3});
  EXPECT_EQ(sum(none, {1}).to_doubles(), std::vector<double>(6, 0));
  EXPECT_EQ(prod(none, {1}).to_doubles(), std::vector<double>(6, 1));
  EXPECT_TRUE(std::isnan(mean(none).item<float>()));
  EXPECT_TRUE(std::isnan(var(none).item<float>()));
  EXPECT_EQ(logsumexp(none).item<float>(), -INFINITY);
  EXPECT_EQ(any(none).item<bool>(), false);
  EXPECT_EQ(all(none).item<bool>(), true);
  EXPECT_EQ(norm(none).item<float>(), 0);
  EXPECT_EQ(sum(none, {0}).shape(), (Shape{0, 3}));
  EXPECT_EQ(max(none, {0}).shape(), (Shape{0, 3}));
  EXPECT_EQ(cumsum(none, 1).shape(), (Shape{2, 0, 3}));
  Tensor x = zeros({2, 0}, {DType::f64}).requires_grad_();
  (sum(x) + prod(x) + sum(mean(x, {0}))).backward();
  EXPECT_EQ(x.grad().shape(), (Shape{2, 0}));
}

TEST_P(ReduceOnDevice, ScalarsReduceToThemselves) {
  Tensor x = full({}, 3, {DType::f64}).requires_grad_();
  const Tensor y = sum(x) + mean(x) + max(x) + prod(x) + norm(x) + logsumexp(x);
  EXPECT_EQ(y.item<double>(), 18);
  y.backward();
  EXPECT_EQ(x.grad().item<double>(), 6);
}

TEST_P(ReduceOnDevice, SumInWideIntegers) {
  const Tensor bytes = full({1000}, 255, {DType::u8});
  EXPECT_EQ(sum(bytes).dtype(), DType::i64);
  EXPECT_EQ(sum(bytes).item<std::int64_t>(), 255000);
  EXPECT_EQ(sum(arange(10) > 3).item<std::int64_t>(), 6);
  EXPECT_EQ(prod(arange(1, 6)).item<std::int64_t>(), 120);
  EXPECT_EQ(max(from_vector<std::int32_t>({-5, -3, -9})).to_vector<std::int32_t>(), std::vector<std::int32_t>{-3});
  EXPECT_EQ(min(from_vector<std::uint8_t>({5, 3, 9})).dtype(), DType::u8);
  EXPECT_EQ(mean(arange(4)).item<float>(), 1.5F);
  EXPECT_EQ(cumsum(arange(5), 0).to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 1, 3, 6, 10}));
  EXPECT_EQ(cumsum(arange(5) > 1, 0).to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 0, 1, 2, 3}));
  const std::int64_t large = (std::int64_t{1} << 53) + 1;  // not a double
  EXPECT_EQ(sum(from_vector<std::int64_t>({large, 1})).item<std::int64_t>(), large + 1);
}

TEST_P(ReduceOnDevice, AnyAndAll) {
  const Tensor x = from_vector<float>({0, 0, 0, 2, 3, 0}, {3, 2});
  EXPECT_EQ(any(x, {1}).to_doubles(), (std::vector<double>{0, 1, 1}));
  EXPECT_EQ(all(x > -1, {0}).to_doubles(), (std::vector<double>{1, 1}));
  EXPECT_EQ(all(x, {0}, true).shape(), (Shape{1, 2}));
  EXPECT_EQ(any(x).item<bool>(), true);
  EXPECT_EQ(all(x).item<bool>(), false);
}

TEST_P(ReduceOnDevice, ArgmaxIsTheFirstOfEqualElements) {
  const Tensor x = from_vector<float>({1, 7, 7, 2, -3, 5, -3, 5}, {2, 4});
  EXPECT_EQ(argmax(x, 1).to_vector<std::int64_t>(), (std::vector<std::int64_t>{1, 1}));
  EXPECT_EQ(argmin(x, -1, true).to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 0}));
  EXPECT_EQ(argmax(x, 0).to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 0, 0, 1}));
  EXPECT_EQ(argmin(x, 0, true).shape(), (Shape{1, 4}));
}

TEST_P(ReduceOnDevice, ArgmaxAgreesWithPlainSearchForEveryLayoutAndDtype) {
  const Shape shape = {7, 130, 9};
  const auto values = random_values(static_cast<std::size_t>(numel(shape)), 5, -100, 100);
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16, DType::i64, DType::i32}) {
    for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::broadcast}) {
      const Tensor x = layout == Layout::broadcast ? from_vector(values, shape).to(dtype).narrow(0, 0, 1).expand(shape)
                                                   : make_tensor(values, shape, dtype, layout, device());
      const auto plain = x.to_doubles();
      for (int dim = 0; dim < 3; ++dim) {
        const auto step = static_cast<std::size_t>(contiguous_strides(shape)[dim]);
        const auto n = static_cast<std::size_t>(shape[dim]);
        std::vector<std::int64_t> expected;
        for (std::size_t i = 0; i < plain.size(); ++i) {
          if (i / step % n != 0) continue;
          std::size_t best = 0;
          for (std::size_t k = 1; k < n; ++k) {
            if (plain[i + k * step] > plain[i + best * step]) best = k;
          }
          expected.push_back(static_cast<std::int64_t>(best));
        }
        EXPECT_EQ(argmax(x, dim).to_vector<std::int64_t>(), expected) << name(dtype) << " dim " << dim;
      }
    }
  }
}

/// Large enough to be split among threads and into blocks.
TEST(ReduceLarge, TheResultDoesNotDependOnTheNumberOfThreads) {
  for (const Shape& shape : {Shape{1 << 21}, Shape{3000, 700}, Shape{700, 3000}, Shape{9, 300, 700}}) {
    const Tensor x = from_vector(random_values(static_cast<std::size_t>(numel(shape)), 3, 0, 1), shape).to(DType::f32);
    for (const Dims& dims : {Dims{}, Dims{0}, Dims{-1}}) {
      if (shape.size() == 1 && !dims.empty()) continue;
      set_num_threads(1);
      const auto total_of_one = sum(x, dims).to_vector<float>();
      const auto variance_of_one = var(x, dims).to_vector<float>();
      set_num_threads(3);
      EXPECT_EQ(sum(x, dims).to_vector<float>(), total_of_one);
      EXPECT_EQ(var(x, dims).to_vector<float>(), variance_of_one);
      set_num_threads(0);
    }
  }
}

/// Rows and columns of whole vectors and of odd sizes, few and many.
TEST_P(ReduceOnDevice, AgreesWithPlainLoopsInManyGeometries) {
  const std::pair<Shape, Dims> geometries[] = {
      {{130, 264}, {0}},   {{130, 264}, {1}},    {{130, 264}, {}},    {{64, 5, 136}, {0}}, {{64, 5, 136}, {0, 2}},
      {{64, 5, 136}, {1}}, {{3, 9000}, {1}},     {{9000, 3}, {0}},    {{9000, 40}, {0}},   {{9000, 33}, {0}},
      {{1, 999}, {0}},     {{2000, 24}, {1}},    {{5, 8001}, {1}},    {{40001}, {0}},      {{1, 2048}, {0}},
      {{2, 20000}, {1}},   {{300, 1, 256}, {0}}, {{7, 300, 32}, {1}},
  };
  int turn = 0;
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16, DType::i32, DType::u8}) {
    const double tolerance = dtype == DType::f64    ? 1e-12
                             : dtype == DType::f32  ? 2e-6
                             : dtype == DType::bf16 ? 4e-3
                                                    : 1e-3;
    ++turn;  // 18 geometries and one more: each dtype meets others, and each geometry two dtypes
    for (const auto& geometry : geometries) {
      if (turn++ % 3 != 0 && only_memory_matters()) continue;
      const auto& shape = geometry.first;
      const auto& dims = geometry.second;         // Clang 14 does not let a lambda capture a structured binding
      for (const std::int64_t offset : {0, 1}) {  // the second begins off the alignment of vectors
        SCOPED_TRACE(std::string(name(dtype)) + " " + shape.to_string() + " over " + dims.to_string() + " from " +
                     std::to_string(offset));
        const std::int64_t n = numel(shape);
        const auto values = random_values(static_cast<std::size_t>(n + offset), 4, 0, is_floating(dtype) ? 2 : 9);
        const Tensor x = from_vector(values).to(dtype).narrow(0, offset, n).view(shape);
        const Array plain{shape, x.to_doubles()};
        const auto agrees = [&](const char* what, const Tensor& got, const auto& fold) {
          const Array expected = reduce_naively(plain, dims, false, fold);
          EXPECT_LE(relative_error(got.to_doubles(), expected.values), tolerance) << what;
        };
        agrees("sum", sum(x, dims), total);
        agrees("max", max(x, dims), [](const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); });
        agrees("min", min(x, dims), [](const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); });
        if (dims.size() == 1) {
          agrees("argmin", argmin(x, dims[0]), [](const std::vector<double>& v) {
            return static_cast<double>(std::min_element(v.begin(), v.end()) - v.begin());
          });
        }
        if (!is_floating(dtype)) continue;
        agrees("logsumexp", logsumexp(x, dims), [](const std::vector<double>& v) {
          double s = 0;
          for (const double e : v) s += std::exp(e);
          return std::log(s);
        });
        agrees("var", var(x, dims, 0), [](const std::vector<double>& v) { return variance(v, 0); });
      }
    }
  }
}

TEST_P(ReduceOnDevice, LargeSumsAreAccurate) {
  for (const Shape& shape : {Shape{1 << 21}, Shape{3000, 700}, Shape{700, 3000}, Shape{9, 300, 700}}) {
    const auto values = random_values(static_cast<std::size_t>(numel(shape)), 3, 0, 1);
    const Tensor x = from_vector(values, shape).to(DType::f32);
    for (const Dims& dims : {Dims{}, Dims{0}, Dims{-1}}) {
      if (shape.size() == 1 && !dims.empty()) continue;
      const Array expected = reduce_naively({shape, x.to_doubles()}, dims, false, total);
      EXPECT_LT(relative_error(sum(x, dims).to_doubles(), expected.values), 1e-7);
      const auto spread = reduce_naively({shape, x.to_doubles()}, dims, false,
                                         [](const std::vector<double>& v) { return variance(v, 1); });
      EXPECT_LT(relative_error(var(x, dims).to_doubles(), spread.values), 3e-7);
    }
  }
}

TEST_P(ReduceOnDevice, VarianceFarFromZero) {
  // A one-pass formula would lose everything here: the squares are 1e8 and the variance is 1/12.
  const auto values = random_values(100000, 9, 10000, 10001);
  const Tensor x = from_vector(values).to(DType::f32);
  EXPECT_NEAR(var(x).item<float>(), variance(x.to_doubles(), 1), 1e-6);
}

TEST(ReduceErrors, NameTheOpAndTheShape) {
  const Tensor x = zeros({2, 0, 3});
  EXPECT_EQ(message_of<ShapeError>([&] { static_cast<void>(max(x)); }),
            "[max] shape [2, 0, 3] has no elements along the reduced dims to choose from");
  EXPECT_EQ(message_of<ShapeError>([&] { static_cast<void>(argmin(x, 1)); }),
            "[argmin] dim 1 of shape [2, 0, 3] has no elements to choose from");
  EXPECT_EQ(message_of<IndexError>([&] { static_cast<void>(sum(x, {3})); }),
            "[sum] dim 3 is out of range for a tensor of rank 3: expected -3 to 2");
  EXPECT_EQ(message_of<IndexError>([&] {
              static_cast<void>(mean(x, {0, -3}));
            }),
            "[mean] dim -3 is given twice in [0, -3]");
  EXPECT_EQ(message_of<ConfigError>([&] { static_cast<void>(norm(x, -1)); }), "[norm] p must be positive, got -1");
  EXPECT_EQ(message_of<IndexError>([&] { static_cast<void>(cumsum(x, 5)); }),
            "[cumsum] dim 5 is out of range for a tensor of rank 3: expected -3 to 2");
}

}  // namespace
}  // namespace trinix::testing
