#include <algorithm>
#include <cmath>
#include <numbers>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/linalg.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/init.h>

namespace trinix::nn::init {

using detail::fail;

namespace {

void check_std(double std) {
  if (!(std >= 0) || std::isinf(std)) {
    fail<ConfigError>("init", "std is {}, but must be a number of at least 0", std);
  }
}

/// The x in (-1, 1) -> y with erf(y) = x: the polynomials of M. Giles, "Approximating the erfinv function" (GPU
/// Computing Gems, 2011), which are good to single precision, and two steps of Newton's method from there.
double inverse_erf(double x) {
  double w = -std::log((1 - x) * (1 + x));
  double p;
  if (w < 5) {
    constexpr double c[] = {2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
                            -0.00125372503, -0.00417768164, 0.246640727,    1.50140941};
    w -= 2.5;
    p = 0;
    for (const double a : c) p = p * w + a;
  } else {
    constexpr double c[] = {-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
                            -0.0076224613,   0.00943887047,  1.00167406,    2.83297682};
    w = std::sqrt(w) - 3;
    p = 0;
    for (const double a : c) p = p * w + a;
  }
  double y = p * x;
  for (int i = 0; i < 2; ++i) y -= (std::erf(y) - x) * std::sqrt(std::numbers::pi) / 2 * std::exp(y * y);
  return y;
}

/// Makes the rows of an f64 matrix on the CPU orthonormal, from the first on: each block of rows loses its part in the
/// span of those before, twice for the sake of rounding, and then goes through Gram and Schmidt's procedure by itself.
void orthonormalize_rows(const Tensor& matrix) {
  constexpr std::int64_t block = 32;
  const std::int64_t rows = matrix.size(0), columns = matrix.size(1);
  for (std::int64_t first = 0; first < rows; first += block) {
    const std::int64_t count = std::min(block, rows - first);
    const Tensor part = matrix.narrow(0, first, count);
    for (int pass = 0; pass < 2 && first > 0; ++pass) {
      const Tensor before = matrix.narrow(0, 0, first);
      sub_(part, matmul(matmul(part, before.transpose(0, 1)), before));
    }
    double* const values = matrix.data<double>() + first * columns;
    for (std::int64_t i = 0; i < count; ++i) {
      double* const row = values + i * columns;
      const auto dot = [&](const double* other) {
        double sum = 0;
        for (std::int64_t c = 0; c < columns; ++c) sum += row[c] * other[c];
        return sum;
      };
      for (int pass = 0; pass < 2; ++pass) {
        for (std::int64_t j = 0; j < i; ++j) {
          const double* const other = values + j * columns;
          const double share = dot(other);
          for (std::int64_t c = 0; c < columns; ++c) row[c] -= share * other[c];
        }
      }
      const double length = std::sqrt(dot(row));
      for (std::int64_t c = 0; c < columns; ++c) row[c] /= length;
    }
  }
}

}  // namespace

Fans fans(const Tensor& weight) {
  if (weight.rank() < 2) {
    fail<ShapeError>("init", "a weight (out, in, ...) is needed to count what flows through it, got {}",
                     weight.shape());
  }
  std::int64_t field = 1;
  for (int d = 2; d < weight.rank(); ++d) field *= weight.shape()[d];
  return {.in = weight.size(1) * field, .out = weight.size(0) * field};
}

double gain(Nonlinearity nonlinearity, double negative_slope) {
  switch (nonlinearity) {
    case Nonlinearity::linear:
    case Nonlinearity::sigmoid:
      return 1;
    case Nonlinearity::tanh:
      return 5.0 / 3.0;
    case Nonlinearity::relu:
      return std::numbers::sqrt2;
    case Nonlinearity::leaky_relu:
      return std::sqrt(2 / (1 + negative_slope * negative_slope));
    case Nonlinearity::selu:
      break;
  }
  return 0.75;
}

const Tensor& uniform_(const Tensor& x, double low, double high, Generator* generator) {
  if (!(low <= high)) fail<ConfigError>("init", "the range from {} to {} is empty", low, high);
  const NoGrad no_grad;
  return trinix::uniform_(x, low, high, generator);
}

const Tensor& normal_(const Tensor& x, double mean, double std, Generator* generator) {
  check_std(std);
  const NoGrad no_grad;
  return trinix::normal_(x, mean, std, generator);
}

const Tensor& trunc_normal_(const Tensor& x, double mean, double std, double low, double high, Generator* generator) {
  check_std(std);
  if (!(low < high)) fail<ConfigError>("init", "the range from {} to {} is empty", low, high);
  const NoGrad no_grad;
  const Tensor values = rand(x.shape(), {DType::f64}, generator);
  const double root = std * std::numbers::sqrt2;
  const double from = std::erf((low - mean) / root), to = std::erf((high - mean) / root);
  double* const v = values.data<double>();
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const double y = std == 0 ? mean : mean + root * inverse_erf(from + v[i] * (to - from));
    v[i] = y >= low ? std::min(y, high) : low;  // NaN, too: what is left of a far tail lies at its beginning
  }
  return x.copy_(values);
}

const Tensor& constant_(const Tensor& x, double value) {
  const NoGrad no_grad;
  return fill_(x, value);
}

const Tensor& zeros_(const Tensor& x) { return constant_(x, 0); }
const Tensor& ones_(const Tensor& x) { return constant_(x, 1); }

const Tensor& xavier_uniform_(const Tensor& weight, double gain, Generator* generator) {
  const Fans f = fans(weight);
  const double bound = gain * std::sqrt(6.0 / static_cast<double>(f.in + f.out));
  return init::uniform_(weight, -bound, bound, generator);
}

const Tensor& xavier_normal_(const Tensor& weight, double gain, Generator* generator) {
  const Fans f = fans(weight);
  return init::normal_(weight, 0, gain * std::sqrt(2.0 / static_cast<double>(f.in + f.out)), generator);
}

namespace {

double kaiming_std(const Tensor& weight, const KaimingOptions& o) {
  const Fans f = fans(weight);
  return gain(o.nonlinearity, o.negative_slope) / std::sqrt(static_cast<double>(o.mode == FanMode::in ? f.in : f.out));
}

}  // namespace

const Tensor& kaiming_uniform_(const Tensor& weight, const KaimingOptions& options, Generator* generator) {
  const double bound = std::sqrt(3.0) * kaiming_std(weight, options);
  return init::uniform_(weight, -bound, bound, generator);
}

const Tensor& kaiming_normal_(const Tensor& weight, const KaimingOptions& options, Generator* generator) {
  return init::normal_(weight, 0, kaiming_std(weight, options), generator);
}

const Tensor& orthogonal_(const Tensor& weight, double gain, Generator* generator) {
  if (weight.rank() < 2) fail<ShapeError>("init", "a matrix is needed to be orthogonal, got {}", weight.shape());
  const NoGrad no_grad;
  const std::int64_t rows = weight.size(0);
  const std::int64_t columns = rows == 0 ? 0 : weight.numel() / rows;
  const std::int64_t fewer = std::min(rows, columns), more = std::max(rows, columns);
  // Rows of independent normal numbers point everywhere alike, and stay so when each loses its part in the span of
  // those before it.
  const Tensor q = randn({fewer, more}, {DType::f64}, generator);
  orthonormalize_rows(q);
  const Tensor oriented = rows <= columns ? q : q.transpose(0, 1);
  return weight.copy_((oriented * gain).reshape(weight.shape()));
}

}  // namespace trinix::nn::init
