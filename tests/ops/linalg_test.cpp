#include "op_case.h"
#include "support/errors.h"

#include <cmath>
#include <gtest/gtest.h>

#include <trinix/core/ops/matmul.h>

namespace trinix::testing {
namespace {

/// c = a b for arrays with two dims or more, batch dims broadcasting.
Array naive_matmul(const Array& a, const Array& b) {
  const std::int64_t m = a.size(-2), k = a.size(-1), n = b.size(-1);
  const auto batch_of = [](const Array& x) { return Dims(std::span(x.shape.begin(), x.shape.end() - 2)); };
  const Shape batch = broadcast_shapes("test", batch_of(a), batch_of(b));
  Array c{batch, {}};
  c.shape.push_back(m);
  c.shape.push_back(n);
  // Index of the matrix of `x` that belongs to product `i` of the batch.
  const auto matrix = [&](const Array& x, std::int64_t i) {
    const Shape own = batch_of(x);
    std::int64_t index = 0, step = 1;
    for (int d = batch.size() - 1, o = own.size() - 1; o >= 0; --d, --o) {
      if (own[o] != 1) index += i % batch[d] * step;
      step *= own[o];
      i /= batch[d];
    }
    return index;
  };
  for (std::int64_t i = 0; i < numel(batch); ++i) {
    const double* x = a.values.data() + matrix(a, i) * m * k;
    const double* y = b.values.data() + matrix(b, i) * k * n;
    for (std::int64_t r = 0; r < m; ++r) {
      for (std::int64_t col = 0; col < n; ++col) {
        double sum = 0;
        for (std::int64_t p = 0; p < k; ++p) sum += x[r * k + p] * y[p * n + col];
        c.values.push_back(sum);
      }
    }
  }
  return c;
}

/// The same with NumPy's treatment of one-dim operands.
Array numpy_matmul(const std::vector<Array>& in) {
  Array a = in[0], b = in[1];
  const bool row = a.shape.size() == 1, column = b.shape.size() == 1;
  if (row) a.shape.insert(0, 1);
  if (column) b.shape.insert(1, 1);
  Array c = naive_matmul(a, b);
  if (column) c.shape.erase(c.shape.size() - 1);
  if (row) c.shape.erase(c.shape.size() - (column ? 1 : 2));
  return c;
}

Array naive_linear(const std::vector<Array>& in) {
  const Array& x = in[0];
  const Array& w = in[1];
  Array y{x.shape, {}};
  y.shape[y.shape.size() - 1] = w.size(0);
  const std::int64_t rows = static_cast<std::int64_t>(x.values.size()) / x.size(-1);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t o = 0; o < w.size(0); ++o) {
      double sum = in.size() > 2 ? in[2].values[static_cast<std::size_t>(o)] : 0;
      for (std::int64_t i = 0; i < x.size(-1); ++i) {
        sum += x.values[static_cast<std::size_t>(r * x.size(-1) + i)] *
               w.values[static_cast<std::size_t>(o * x.size(-1) + i)];
      }
      y.values.push_back(sum);
    }
  }
  return y;
}

std::vector<OpCase> linalg_cases() {
  std::vector<OpCase> list;
  const std::vector<std::vector<Shape>> products = {
      {{7, 5}, {5, 9}},
      {{3, 4, 7}, {3, 7, 5}},
      {{2, 1, 3, 5}, {4, 5, 2}},
      {{2, 3, 4, 5}, {5, 3}},
      {{4, 5}, {2, 3, 5, 2}},
      {{6}, {6}},
      {{6}, {6, 4}},
      {{4, 6}, {6}},
      {{6}, {3, 6, 2}},
      {{3, 4, 6}, {6}},
      {{1, 5}, {5, 1}},
      {{2, 1, 6}, {2, 6, 3}},
      {{1, 3, 1, 4}, {2, 1, 4, 3}},
  };
  // Where a repeated operand of 16 bits gets a gradient that nearly cancels, its relative error says nothing.
  const std::vector<Layout> dense = {Layout::contiguous, Layout::transposed, Layout::sliced};
  for (const auto& shapes : products) {
    list.push_back({.name = "matmul",
                    .inputs = shapes,
                    .function = [](const auto& x, KernelChoice) { return matmul(x[0], x[1]); },
                    .reference = numpy_matmul,
                    .layouts = dense});
    list.push_back({.name = "matmul_repeated",
                    .inputs = shapes,
                    .function = [](const auto& x, KernelChoice) { return matmul(x[0], x[1]); },
                    .reference = numpy_matmul,
                    .dtypes = {DType::f64, DType::f32},
                    .layouts = {Layout::broadcast}});
  }
  const std::vector<std::vector<Shape>> layers = {
      {{5}, {3, 5}, {3}}, {{4, 5}, {7, 5}, {7}}, {{4, 5}, {7, 5}}, {{2, 3, 9}, {4, 9}, {4}}, {{1, 33}, {17, 33}, {17}}};
  for (const auto& shapes : layers) {
    list.push_back(
        {.name = "linear",
         .inputs = shapes,
         .function = [](const auto& x, KernelChoice) { return linear(x[0], x[1], x.size() > 2 ? x[2] : Tensor()); },
         .reference = naive_linear});
  }
  // Large enough for every loop of the matrix engine; too large for finite differences.
  list.push_back({.name = "matmul_large",
                  .inputs = {{2, 131, 300}, {300, 93}},
                  .function = [](const auto& x, KernelChoice) { return matmul(x[0], x[1]); },
                  .reference = numpy_matmul,
                  .dtypes = {DType::f32, DType::bf16, DType::f16},
                  .layouts = {Layout::contiguous, Layout::sliced}});
  return list;
}

class Linalg : public ::testing::TestWithParam<OpCase> {};
TEST_P(Linalg, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, Linalg, ::testing::ValuesIn(linalg_cases()),
                         [](const auto& info) { return info.param.name + "_" + std::to_string(info.index); });

class LinalgOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, LinalgOnDevice, ::testing::ValuesIn(test_devices()), device_name);

/// Every registered implementation, on strides and options that the public functions do not combine.
TEST_P(LinalgOnDevice, EveryImplementationTakesAnyStridesAddsAndHasABias) {
  initialize();
  const std::int64_t m = 37, n = 29, k = 53;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    const double tolerance = dtype == DType::bf16 ? 1e-2 : dtype == DType::f16 ? 2e-3 : 2e-6;
    for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::sliced}) {
      const auto rounded = [&](std::size_t count, std::uint64_t seed) {
        return trinix::from_vector(random_values(count, seed)).to(dtype).to_doubles();
      };
      const Array a{{2, m, k}, rounded(static_cast<std::size_t>(2 * m * k), 1)};
      const Array b{{1, k, n}, rounded(static_cast<std::size_t>(k * n), 2)};
      const Array bias{{n}, rounded(static_cast<std::size_t>(n), 3)};
      const Array before{{2, m, n}, rounded(static_cast<std::size_t>(2 * m * n), 4)};
      Array expected = naive_matmul(a, b);
      for (std::size_t i = 0; i < expected.values.size(); ++i) {
        expected[i] += before[i] + bias[i % static_cast<std::size_t>(n)];
      }
      const Tensor ta = make_tensor(a.values, a.shape, dtype, layout, device());
      const Tensor tb = make_tensor(b.values, b.shape, dtype, layout, device()).expand({2, k, n});
      const Tensor tbias = make_tensor(bias.values, bias.shape, dtype, Layout::contiguous, device());
      int ran = 0;
      for (const auto& impl : KernelTable<Matmul>::instance().impls(device().type)) {
        const Tensor out = make_tensor(before.values, before.shape, dtype, layout, device());
        const Matmul::Forward args{
            .a = ta.raw(), .b = tb.raw(), .out = out.raw(), .bias = tbias.raw(), .accumulate = true};
        if (impl.why_not != nullptr && impl.why_not(args, false) != nullptr) continue;
        impl.forward(args, stream_of(device()));
        EXPECT_LE(relative_error(out.to_doubles(), expected.values), tolerance)
            << impl.name << " " << name(dtype) << " layout " << static_cast<int>(layout);
        ++ran;
      }
      EXPECT_GE(ran, 1) << name(dtype);
    }
  }
}

TEST_P(LinalgOnDevice, IntegersAreConvertedAndMixedDtypesPromoted) {
  const Tensor a = from_vector<std::int64_t>({1, 2, 3, 4}, {2, 2});
  const Tensor product = matmul(a, a);
  EXPECT_EQ(product.dtype(), DType::f32);
  EXPECT_EQ(product.to_vector<float>(), (std::vector<float>{7, 10, 15, 22}));
  EXPECT_EQ(matmul(a.to(DType::bf16), a.to(DType::f64)).dtype(), DType::f64);
}

TEST_P(LinalgOnDevice, EmptyOperandsGiveEmptyOrZeroResultsAndGradients) {
  Tensor a = zeros({3, 0}).requires_grad_();
  Tensor b = zeros({0, 2}).requires_grad_();
  const Tensor c = matmul(a, b);
  EXPECT_EQ(c.to_vector<float>(), std::vector<float>(6, 0.0F));
  c.backward(ones({3, 2}));
  EXPECT_EQ(a.grad().shape(), (Shape{3, 0}));
  EXPECT_EQ(matmul(zeros({0, 4}), zeros({4, 2})).shape(), (Shape{0, 2}));
  Tensor w = ones({2, 4}).requires_grad_();
  Tensor bias = ones({2}).requires_grad_();
  linear(zeros({0, 4}), w, bias).backward(zeros({0, 2}));
  EXPECT_EQ(w.grad().to_vector<float>(), std::vector<float>(8, 0.0F));
  EXPECT_EQ(bias.grad().to_vector<float>(), std::vector<float>(2, 0.0F));
  EXPECT_EQ(linear(zeros({3, 0}), zeros({2, 0}), from_vector<float>({5, 6})).to_vector<float>(),
            (std::vector<float>{5, 6, 5, 6, 5, 6}));
}

TEST_P(LinalgOnDevice, LinearGradientsAddUpOverSharedWeightsAndBackwards) {
  Tensor w = from_vector<float>({2, 3, 5, 7}, {2, 2}).requires_grad_();
  Tensor b = from_vector<float>({1, -1}).requires_grad_();
  const Tensor x = from_vector<float>({1, 2}, {1, 2});
  sum(linear(linear(x, w, b), w, b)).backward();
  // y = W x + b = (9, 18); dW = 1 y^T + (W^T 1) x^T
  EXPECT_EQ(w.grad().to_vector<float>(), (std::vector<float>{9 + 7, 18 + 14, 9 + 10, 18 + 20}));
  EXPECT_EQ(b.grad().to_vector<float>(), (std::vector<float>{1 + 7, 1 + 10}));
  sum(linear(x, w, b)).backward();
  EXPECT_EQ(w.grad().to_vector<float>(), (std::vector<float>{17, 34, 20, 40}));
  w.zero_grad();
  sum(linear(x, w, b)).backward();
  EXPECT_EQ(w.grad().to_vector<float>(), (std::vector<float>{1, 2, 1, 2}));
}

TEST(Linalg, MistakesAreExplained) {
  EXPECT_EQ(message_of<ShapeError>([] {
              static_cast<void>(matmul(zeros({2, 3}), zeros({4, 5})));
            }),
            "[matmul] shapes [2, 3] and [4, 5] do not fit: the last dim of the first must equal the second last dim of "
            "the second");
  EXPECT_EQ(message_of<ShapeError>([] { static_cast<void>(matmul(zeros({}), zeros({4}))); }),
            "[matmul] shapes [] and [4]: both operands need at least one dim; use * for a product with a number");
  EXPECT_EQ(message_of<ShapeError>([] {
              static_cast<void>(matmul(zeros({2, 3, 4}), zeros({3, 4, 5})));
            }),
            "[matmul] shapes [2, 3, 4] and [3, 4, 5] do not fit: the batch dims 2 and 3 must be equal or 1");
  EXPECT_EQ(message_of<ShapeError>([] {
              static_cast<void>(linear(zeros({2, 3}), zeros({5, 4})));
            }),
            "[linear] an input of shape [2, 3] does not fit a weight of shape [5, 4]: the input's last dim must equal "
            "the weight's dim 1, of shape (out, in)");
  EXPECT_EQ(message_of<ShapeError>([] {
              static_cast<void>(linear(zeros({2, 3}), zeros({5, 3}), zeros({4})));
            }),
            "[linear] the bias has shape [4], but the weight of shape [5, 3] makes 5 outputs");
  EXPECT_EQ(message_of<DtypeError>([] {
              static_cast<void>(linear(zeros({2, 3}), zeros({5, 3}, {DType::f64})));
            }),
            "[linear] the input is f32, but the weight is f64; convert one with to()");
}

}  // namespace
}  // namespace trinix::testing
