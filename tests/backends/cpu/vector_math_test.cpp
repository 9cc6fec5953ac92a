// The float functions of backends/cpu/vector_math.h, as the unary kernels run them, against the standard library in
// double: over a sweep of all floats, and at the points where formulas break.
#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

#include <trinix/trinix.h>

namespace trinix {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Distance of `got` from the exact value in units of the last place of a float there.
double ulps(float got, double exact) {
  const auto rounded = static_cast<float>(exact);
  if (std::isnan(exact) || std::isnan(got)) return std::isnan(exact) && std::isnan(got) ? 0 : kInfinity;
  if (std::isinf(rounded) || std::isinf(got)) return got == rounded ? 0 : kInfinity;
  int exponent = 0;
  std::frexp(exact, &exponent);
  return std::fabs(got - exact) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

struct Function {
  const char* name;
  Tensor (*function)(const Tensor&);
  double (*exact)(double);
  double most_ulps;
  double range = kInfinity;
};

const Function kFunctions[] = {
    {"exp", [](const Tensor& x) { return exp(x); }, [](double x) { return std::exp(x); }, 1},
    {"expm1", [](const Tensor& x) { return expm1(x); }, [](double x) { return std::expm1(x); }, 1.6},
    {"log", [](const Tensor& x) { return log(x); }, [](double x) { return std::log(x); }, 1},
    {"log2", [](const Tensor& x) { return log2(x); }, [](double x) { return std::log2(x); }, 2},
    {"log1p", [](const Tensor& x) { return log1p(x); }, [](double x) { return std::log1p(x); }, 2},
    {"tanh", [](const Tensor& x) { return tanh(x); }, [](double x) { return std::tanh(x); }, 2.5},
    {"sigmoid", [](const Tensor& x) { return sigmoid(x); },
     [](double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }, 2.5},
    {"erf", [](const Tensor& x) { return erf(x); }, [](double x) { return std::erf(x); }, 1.2},
    {"sin", [](const Tensor& x) { return sin(x); }, [](double x) { return std::sin(x); }, 1.6, 0x1p20},
    {"cos", [](const Tensor& x) { return cos(x); }, [](double x) { return std::cos(x); }, 1.6, 0x1p20},
};

class VectorMath : public ::testing::TestWithParam<Function> {};
INSTANTIATE_TEST_SUITE_P(Cpu, VectorMath, ::testing::ValuesIn(kFunctions),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(VectorMath, StaysWithinItsStatedError) {
  std::vector<float> x;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 4093) {  // a prime: all mantissas are met
    const float v = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::fabs(v) <= GetParam().range) x.push_back(v);
  }
  const auto y = GetParam().function(from_vector(x)).to_vector<float>();
  double worst = 0;
  float at = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double error = ulps(y[i], GetParam().exact(x[i]));
    if (error > worst) {
      worst = error;
      at = x[i];
    }
  }
  RecordProperty("worst_ulps", std::to_string(worst));
  EXPECT_LE(worst, GetParam().most_ulps) << "at " << at;
}

TEST_P(VectorMath, SpecialValues) {
  const float inf = INFINITY;
  const std::vector<float> x = {0.0F,    -0.0F,  1.0F,   -1.0F,  inf,    -inf,   NAN,    1e-45F,
                                -1e-45F, 1e-39F, 88.0F,  88.72F, 88.73F, -87.3F, -87.4F, -103.0F,
                                -104.0F, 10.0F,  -10.0F, 2.0F,   0.5F,   1e30F};
  const auto y = GetParam().function(from_vector(x)).to_vector<float>();
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_LE(ulps(y[i], GetParam().exact(x[i])), GetParam().most_ulps) << x[i] << " gave " << y[i];
  }
}

TEST(VectorMathExact, PowersOfTwoHaveExactLogarithms) {
  std::vector<float> x;
  for (int e = -149; e < 128; ++e) x.push_back(std::ldexp(1.0F, e));
  const auto y = log2(from_vector(x)).to_vector<float>();
  for (int e = -149; e < 128; ++e) EXPECT_EQ(y[static_cast<std::size_t>(e + 149)], e);
}

}  // namespace
}  // namespace trinix
