// Running sums over lines long enough to be cut into pieces, which the op cases are not.
#include "naive.h"

#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

Array naive_cumsum(const Array& x, int dim, bool reverse) {
  Array out = x;
  const std::int64_t n = x.shape[dim];
  for_each_index(x.shape, [&](const Dims& at) {
    Dims to = at;
    if (reverse) to[dim] = n - 1 - at[dim];
    Dims from = to;
    from[dim] += reverse ? 1 : -1;
    if (from[dim] >= 0 && from[dim] < n) out[flat(x.shape, to)] += out[flat(x.shape, from)];
  });
  return out;
}

class ScanOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, ScanOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(ScanOnDevice, LongLinesForwardAndBackward) {
  for (const Shape& shape : {Shape{1, 200003}, Shape{3, 9001}, Shape{40000, 2}, Shape{5000, 40}, Shape{2, 2048}}) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      for (const int dim : {0, 1}) {
        SCOPED_TRACE(shape.to_string() + " " + std::string(name(dtype)) + " " + std::to_string(dim));
        const auto values = random_values(static_cast<std::size_t>(numel(shape)), 4, -1, 1);
        Tensor x = from_vector(values, shape).to(dtype).requires_grad_();
        const double tolerance = dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 2e-6 : 1e-2;
        const Tensor y = cumsum(x, dim);
        const Array given = to_array(x.detach());
        EXPECT_LE(relative_error(y.to_doubles(), naive_cumsum(given, dim, false).values), tolerance);
        y.backward(x.detach());
        EXPECT_LE(relative_error(x.grad().to_doubles(), naive_cumsum(given, dim, true).values), tolerance);
      }
    }
  }
}

TEST_P(ScanOnDevice, IntegersAreExactAndWrap) {
  std::vector<std::int64_t> values(30011);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = (std::int64_t{1} << 61) - static_cast<std::int64_t>(i);
  std::vector<std::int64_t> expected;
  std::uint64_t sum = 0;
  for (const std::int64_t v : values)
    expected.push_back(static_cast<std::int64_t>(sum += static_cast<std::uint64_t>(v)));
  EXPECT_EQ(cumsum(from_vector(values), 0).to_vector<std::int64_t>(), expected);
  const Tensor bits = ones({5003}, {DType::boolean});
  EXPECT_EQ(cumsum(bits, 0).to_vector<std::int64_t>().back(), 5003);
}

TEST_P(ScanOnDevice, StridedLines) {
  const Shape shape = {3, 4001};
  const Array x{shape, random_values(static_cast<std::size_t>(numel(shape)), 9)};
  for (const Layout layout : {Layout::transposed, Layout::sliced}) {
    const Tensor t = make_tensor(x.values, shape, DType::f64, layout, device());
    EXPECT_LE(relative_error(cumsum(t, 1).to_doubles(), naive_cumsum(x, 1, false).values), 1e-12);
  }
}

}  // namespace
}  // namespace trinix::testing
