// What the Newton-Schulz iteration does to singular values.
#include "support/on_device.h"
#include "support/singular_values.h"

#include <cmath>
#include <gmock/gmock.h>

#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/optim/newton_schulz.h>

namespace trinix::optim {
namespace {

using trinix::testing::singular_values;

class NewtonSchulzOnDevice : public trinix::testing::OnDevice {
 protected:
  /// What Muon's iteration runs in; on the CPU 16-bit matrices go through f32.
  static std::vector<DType> dtypes() {
    if (device().is_cpu()) return {DType::f32, DType::bf16};
    return {DType::bf16, DType::f16};
  }

  static Tensor noise(const Shape& shape, std::uint64_t seed) {
    Generator generator(seed);
    return trinix::randn(shape, {DType::f64}, &generator);
  }

  /// A matrix whose singular values fall off geometrically from 1 to `least`.
  static Tensor falling(std::int64_t rows, std::int64_t cols, double least, std::uint64_t seed) {
    const std::int64_t m = std::min(rows, cols);
    const auto orthogonal = [&](std::int64_t n, std::uint64_t s) {
      const Tensor random = noise({m, n}, s);
      const std::vector<double> values = random.to_doubles();
      std::vector<std::vector<double>> columns;
      for (std::int64_t j = 0; j < m; ++j) columns.emplace_back(values.begin() + j * n, values.begin() + (j + 1) * n);
      trinix::testing::orthogonalise_columns(columns);
      std::vector<double> all;
      for (auto& column : columns) {
        double squares = 0;
        for (const double x : column) squares += x * x;
        for (const double x : column) all.push_back(x / std::sqrt(squares));
      }
      return trinix::from_vector(all, {m, n});
    };
    std::vector<double> sigma;
    for (std::int64_t i = 0; i < m; ++i) {
      sigma.push_back(std::pow(least, static_cast<double>(i) / static_cast<double>(std::max<std::int64_t>(m - 1, 1))));
    }
    const Tensor scaled = orthogonal(rows, seed) * trinix::from_vector(sigma, {m, 1});
    return matmul(scaled.transpose(0, 1), orthogonal(cols, seed + 1));
  }

  /// Singular values of the result beside those that the polynomials give in f64 for those of the input.
  static void check(const Tensor& x, DType dtype, const NewtonSchulzOptions& options, const std::string& what,
                    double tolerance = 0.03) {
    const Tensor given = x.to(dtype);
    const std::vector<double> before = singular_values(given.to(DType::f64));
    double norm = 0;
    for (const double s : before) norm += s * s;
    norm = std::sqrt(norm);
    std::vector<double> expected;
    for (const double s : before) {
      double y = s / (newton_schulz_margin(options.coefficients) * norm);
      for (const QuinticStep& q : newton_schulz_steps(options.coefficients, options.steps)) {
        y = q.a * y + q.b * y * y * y + q.c * y * y * y * y * y;
      }
      expected.push_back(y);
      if (s < 0.01 * norm || options.coefficients != NewtonSchulzCoefficients::quintic) continue;
      EXPECT_GE(y, 0.65) << what;
      EXPECT_LE(y, 1.25) << what;
    }
    std::sort(expected.rbegin(), expected.rend());
    const Tensor result = newton_schulz(given.to(device()), options);
    EXPECT_EQ(result.dtype(), dtype);
    const std::vector<double> after = singular_values(result.to(Device::cpu()).to(DType::f64));
    for (std::size_t i = 0; i < after.size(); ++i) {
      EXPECT_NEAR(after[i], expected[i], tolerance) << what << " " << name(dtype) << ", singular value " << i;
    }
    if (options.coefficients != NewtonSchulzCoefficients::quintic) return;
    // Those that started at 0.01 of the norm or more are the largest.
    std::size_t large = 0;
    for (const double s : before) large += s >= 0.01 * norm ? 1 : 0;
    for (std::size_t i = 0; i < large; ++i) {
      EXPECT_GE(after[i], 0.65) << what << " " << name(dtype);
      EXPECT_LE(after[i], 1.25) << what << " " << name(dtype);
    }
  }
};

TEST_P(NewtonSchulzOnDevice, SingularValuesAreThoseOfTheQuintic) {
  for (const DType dtype : dtypes()) {
    check(noise({40, 100}, 1), dtype, {}, "wide");
    check(noise({120, 33}, 2), dtype, {}, "tall");
    check(noise({64, 64}, 3), dtype, {}, "square");
    check(falling(48, 80, 0.02, 4), dtype, {}, "ill-conditioned");
    // Singular values far below 0.01 of the norm, which the iteration multiplies by up to 485 (3.4445^5). Rounding the
    // matrix to bf16 is itself a change of 2^-9 / sqrt(3) of its norm, in all directions alike.
    const double rounding = dtype == DType::bf16 ? 0x1p-9 / std::sqrt(3.0) : 0;
    check(falling(80, 48, 1e-6, 6), dtype, {}, "nearly singular",
          0.03 + 485 * rounding * (1 / std::sqrt(80.0) + 1 / std::sqrt(48.0)));
    check(noise({1, 50}, 8), dtype, {}, "one row");
    check(noise({50, 1}, 9), dtype, {}, "one column");
    check(full({1, 1}, -3.0, {DType::f64}).to(Device::cpu()), dtype, {}, "one number");
    check(noise({40, 100}, 1), dtype, {.steps = 4}, "an even number of steps");
    check(noise({64, 64}, 3), dtype, {.coefficients = NewtonSchulzCoefficients::polar_express}, "Polar Express");
    check(falling(48, 80, 0.02, 4), dtype, {.coefficients = NewtonSchulzCoefficients::polar_express, .steps = 6},
          "Polar Express, six steps");
  }
}

TEST_P(NewtonSchulzOnDevice, IsTheComposedReferenceInEveryDtype) {
  for (const auto& [dtype, tolerance] :
       {std::pair{DType::f64, 1e-12}, {DType::f32, 1e-4}, {DType::bf16, 0.05}, {DType::f16, 0.02}}) {
    for (const Shape& shape : {Shape{3, 20, 33}, Shape{2, 41, 20}, Shape{5, 130, 130}, Shape{2, 2, 7, 7}}) {
      const Tensor x = noise(shape, 11).to(dtype).to(device());
      const Tensor fused = newton_schulz(x), composed = newton_schulz(x, {.kernel = Kernel::reference});
      EXPECT_EQ(fused.shape(), shape);
      const Tensor difference = fused.to(DType::f64) - composed.to(DType::f64);
      const double norm = sqrt(sum(composed.to(DType::f64) * composed.to(DType::f64))).item<double>();
      EXPECT_LT(sqrt(sum(difference * difference)).item<double>(), tolerance * norm) << name(dtype);
    }
  }
}

TEST_P(NewtonSchulzOnDevice, ZerosStayZeros) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor y = newton_schulz(zeros({2, 8, 12}, {dtype}));
    EXPECT_THAT(y.to_doubles(), ::testing::Each(0.0));
    EXPECT_EQ(newton_schulz(zeros({2, 0, 12}, {dtype})).shape(), (Shape{2, 0, 12}));
    EXPECT_EQ(newton_schulz(zeros({0, 3, 12}, {dtype})).shape(), (Shape{0, 3, 12}));
  }
}

TEST_P(NewtonSchulzOnDevice, MatricesOfABatchAreAlone) {
  const Tensor x = noise({3, 24, 40}, 5).to(DType::f32).to(device());
  const Tensor together = newton_schulz(x);
  for (int i = 0; i < 3; ++i) {
    const Tensor difference = abs(together[i] - newton_schulz(x[i]));
    EXPECT_LT(max(difference).item<float>(), 1e-5F);
  }
}

TEST_P(NewtonSchulzOnDevice, Errors) {
  EXPECT_THROW(static_cast<void>(newton_schulz(zeros({4}))), ShapeError);
  EXPECT_THROW(static_cast<void>(newton_schulz(zeros({4, 4}, {DType::i64}))), DtypeError);
  EXPECT_THROW(static_cast<void>(newton_schulz(zeros({4, 4}), {.steps = 0})), ConfigError);
  Tensor p = ones({4, 4});
  p.requires_grad_();
  EXPECT_THROW(static_cast<void>(newton_schulz(p)), AutogradError);
}

INSTANTIATE_TEST_SUITE_P(Devices, NewtonSchulzOnDevice, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
