#include "op_case.h"
#include "support/errors.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace trinix::testing {
namespace {

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

/// Moves values off the multiples of `step`, where the function has a kink or a jump.
std::function<void(std::size_t, std::vector<double>&)> away_from_multiples(double step) {
  return [step](std::size_t, std::vector<double>& values) {
    for (double& v : values) {
      const double nearest = std::round(v / step) * step;
      if (std::fabs(v - nearest) < 0.1 * step) v = nearest + 0.15 * step;
    }
  };
}

struct Named {
  const char* name;
  Tensor (*function)(const Tensor&);
  double (*reference)(double);
  double low = -2;
  double high = 2;
  double kinks = 0;  ///< at the multiples of this
};

const Named kFunctions[] = {
    {"neg", [](const Tensor& x) { return neg(x); }, [](double x) { return -x; }},
    {"minus", [](const Tensor& x) { return -x; }, [](double x) { return -x; }},
    {"abs", [](const Tensor& x) { return abs(x); }, [](double x) { return std::fabs(x); }, -2, 2, 1},
    {"sign", [](const Tensor& x) { return sign(x); }, [](double x) { return x > 0 ? 1.0 : -1.0; }, -2, 2, 1},
    {"square", [](const Tensor& x) { return square(x); }, [](double x) { return x * x; }},
    {"clamp", [](const Tensor& x) { return clamp(x, -1, 0.5); },
     [](double x) { return std::min(std::max(x, -1.0), 0.5); }, -2, 2, 0.5},
    {"exp", [](const Tensor& x) { return exp(x); }, [](double x) { return std::exp(x); }, -5, 3},
    {"expm1", [](const Tensor& x) { return expm1(x); }, [](double x) { return std::expm1(x); }},
    {"log", [](const Tensor& x) { return log(x); }, [](double x) { return std::log(x); }, 0.2, 5},
    {"log1p", [](const Tensor& x) { return log1p(x); }, [](double x) { return std::log1p(x); }, -0.7, 5},
    {"log2", [](const Tensor& x) { return log2(x); }, [](double x) { return std::log2(x); }, 0.2, 5},
    {"sqrt", [](const Tensor& x) { return sqrt(x); }, [](double x) { return std::sqrt(x); }, 0.2, 5},
    {"rsqrt", [](const Tensor& x) { return rsqrt(x); }, [](double x) { return 1 / std::sqrt(x); }, 0.2, 5},
    {"reciprocal", [](const Tensor& x) { return reciprocal(x); }, [](double x) { return 1 / x; }, 0.5, 3},
    {"sin", [](const Tensor& x) { return sin(x); }, [](double x) { return std::sin(x); }, -9, 9},
    {"cos", [](const Tensor& x) { return cos(x); }, [](double x) { return std::cos(x); }, -9, 9},
    {"tan", [](const Tensor& x) { return tan(x); }, [](double x) { return std::tan(x); }, -1, 1},
    {"tanh", [](const Tensor& x) { return tanh(x); }, [](double x) { return std::tanh(x); }},
    {"sigmoid", [](const Tensor& x) { return sigmoid(x); }, logistic, -4, 4},
    {"erf", [](const Tensor& x) { return erf(x); }, [](double x) { return std::erf(x); }},
    {"floor", [](const Tensor& x) { return floor(x); }, [](double x) { return std::floor(x); }, -3, 3, 0.5},
    {"ceil", [](const Tensor& x) { return ceil(x); }, [](double x) { return std::ceil(x); }, -3, 3, 0.5},
    {"round", [](const Tensor& x) { return round(x); }, [](double x) { return std::nearbyint(x); }, -3, 3, 0.5},
    {"trunc", [](const Tensor& x) { return trunc(x); }, [](double x) { return std::trunc(x); }, -3, 3, 0.5},
    {"relu", [](const Tensor& x) { return relu(x); }, [](double x) { return std::max(x, 0.0); }, -2, 2, 1},
    {"leaky_relu", [](const Tensor& x) { return leaky_relu(x, 0.125); }, [](double x) { return x < 0 ? 0.125 * x : x; },
     -2, 2, 1},
    {"elu", [](const Tensor& x) { return elu(x, 0.75); }, [](double x) { return x < 0 ? 0.75 * std::expm1(x) : x; }, -2,
     2, 1},
    {"silu", [](const Tensor& x) { return silu(x); }, [](double x) { return x * logistic(x); }, -4, 4},
    {"softplus", [](const Tensor& x) { return softplus(x); }, [](double x) { return std::log1p(std::exp(x)); }, -4, 4},
    {"gelu_erf", [](const Tensor& x) { return gelu(x); },
     [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }, -4, 4},
    {"gelu_tanh", [](const Tensor& x) { return gelu(x, Gelu::tanh); },
     [](double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }, -4, 4},
    {"quick_gelu", [](const Tensor& x) { return quick_gelu(x); }, [](double x) { return x * logistic(1.702 * x); }, -4,
     4},
    {"squared_relu", [](const Tensor& x) { return squared_relu(x); },
     [](double x) { return std::max(x, 0.0) * std::max(x, 0.0); }},
    {"mish", [](const Tensor& x) { return mish(x); }, [](double x) { return x * std::tanh(std::log1p(std::exp(x))); },
     -4, 4},
    {"add_number", [](const Tensor& x) { return x + 0.75; }, [](double x) { return x + 0.75; }},
    {"number_add", [](const Tensor& x) { return 3 + x; }, [](double x) { return x + 3; }},
    {"sub_number", [](const Tensor& x) { return x - 0.75; }, [](double x) { return x - 0.75; }},
    {"number_sub", [](const Tensor& x) { return 3 - x; }, [](double x) { return 3 - x; }},
    {"mul_number", [](const Tensor& x) { return x * -1.5; }, [](double x) { return x * -1.5; }},
    {"div_number", [](const Tensor& x) { return x / 4; }, [](double x) { return x / 4; }},
    {"number_div", [](const Tensor& x) { return 2 / x; }, [](double x) { return 2 / x; }, 0.5, 3},
    {"pow_square", [](const Tensor& x) { return pow(x, 2); }, [](double x) { return x * x; }},
    {"pow_root", [](const Tensor& x) { return pow(x, 0.5); }, [](double x) { return std::sqrt(x); }, 0.2, 4},
    {"pow_inverse_root", [](const Tensor& x) { return pow(x, -0.5); }, [](double x) { return 1 / std::sqrt(x); }, 0.2,
     4},
    {"pow_inverse", [](const Tensor& x) { return pow(x, -1); }, [](double x) { return 1 / x; }, 0.5, 3},
    {"pow_cube", [](const Tensor& x) { return pow(x, 3); }, [](double x) { return x * x * x; }},
    {"pow_any", [](const Tensor& x) { return pow(x, 1.7); }, [](double x) { return std::pow(x, 1.7); }, 0.2, 4},
};

std::vector<OpCase> unary_cases() {
  std::vector<OpCase> list;
  for (const Named& n : kFunctions) {
    OpCase c{.name = n.name,
             .inputs = {{5, 37, 3}},
             .function = [f = n.function](const auto& x, KernelChoice) { return f(x[0]); },
             .reference =
                 [f = n.reference](const std::vector<Array>& in) {
                   Array out = in[0];
                   for (double& v : out.values) v = f(v);
                   return out;
                 },
             .low = n.low,
             .high = n.high};
    if (n.kinks > 0) c.prepare = away_from_multiples(n.kinks);
    list.push_back(c);
    c.inputs = {{0, 3}};
    c.name += "_of_nothing";
    c.layouts = {Layout::contiguous};
    list.push_back(c);
  }
  return list;
}

class UnaryOps : public ::testing::TestWithParam<OpCase> {};
TEST_P(UnaryOps, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, UnaryOps, ::testing::ValuesIn(unary_cases()),
                         [](const auto& info) { return info.param.name; });

class UnaryOnDevice : public OnDevice {
 protected:
  /// f and its gradient at the given points, in every floating dtype; all expected values are exact in 16 bits.
  static void expect_at(Tensor (*f)(const Tensor&), const std::vector<double>& x, const std::vector<double>& y,
                        const std::vector<double>& slope) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      SCOPED_TRACE(std::string(name(dtype)));
      Tensor in = from_vector(x).to(dtype).requires_grad_();
      const Tensor out = f(in);
      EXPECT_EQ(out.dtype(), dtype);
      EXPECT_EQ(relative_error(out.to_doubles(), y), 0) << out;
      out.backward(ones_like(out));
      EXPECT_EQ(relative_error(in.grad().to_doubles(), slope), 0) << in.grad();
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, UnaryOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(UnaryOnDevice, KinksHaveTheStatedSlopes) {
  expect_at([](const Tensor& x) { return abs(x); }, {-1, -0.0, 0, 2}, {1, 0, 0, 2}, {-1, 0, 0, 1});
  expect_at([](const Tensor& x) { return sign(x); }, {-1, 0, 2, kInfinity}, {-1, 0, 1, 1}, {0, 0, 0, 0});
  expect_at([](const Tensor& x) { return relu(x); }, {-1, 0, 2, kInfinity}, {0, 0, 2, kInfinity}, {0, 0, 1, 1});
  expect_at([](const Tensor& x) { return squared_relu(x); }, {-1, 0, 2}, {0, 0, 4}, {0, 0, 4});
  expect_at([](const Tensor& x) { return clamp(x, -1, 2); }, {-3, -1, 0, 2, 3}, {-1, -1, 0, 2, 2}, {0, 1, 1, 1, 0});
  expect_at([](const Tensor& x) { return clamp(x, 1, kInfinity); }, {-3, 1, 5}, {1, 1, 5}, {0, 1, 1});
  expect_at([](const Tensor& x) { return round(x); }, {0.5, 1.5, 2.5, -0.5, -1.5}, {0, 2, 2, 0, -2}, {0, 0, 0, 0, 0});
  expect_at([](const Tensor& x) { return pow(x, 0); }, {0, 1, -2}, {1, 1, 1}, {0, 0, 0});
  expect_at([](const Tensor& x) { return pow(x, 3); }, {0, 1, -2}, {0, 1, -8}, {0, 3, 12});
}

TEST_P(UnaryOnDevice, ZeroSlopeStopsAnInfiniteGradient) {
  for (auto f : {+[](const Tensor& x) { return relu(x); }, +[](const Tensor& x) { return clamp(x, 0, 1); },
                 +[](const Tensor& x) { return abs(x * 0); }, +[](const Tensor& x) { return floor(x); }}) {
    Tensor x = from_vector<float>({-1}).requires_grad_();
    f(x).backward(full({1}, kInfinity));
    const float g = x.grad().item<float>();
    EXPECT_TRUE(g == 0 || std::isnan(g)) << g;  // abs(x * 0): 0 * infinity in the product, not in abs
  }
  Tensor x = from_vector<float>({-1}).requires_grad_();
  relu(x).backward(full({1}, kInfinity));
  EXPECT_EQ(x.grad().item<float>(), 0);
}

TEST_P(UnaryOnDevice, SaturatedFunctionsAreFiniteFarOut) {
  const std::vector<double> far = {-kInfinity, -30000, -1e4, 1e4, 30000, kInfinity};
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    SCOPED_TRACE(std::string(name(dtype)));
    for (const Named& n : kFunctions) {
      const std::string_view f = n.name;
      if (f != "tanh" && f != "sigmoid" && f != "erf" && f != "silu" && f != "softplus" && f != "gelu_erf" &&
          f != "gelu_tanh" && f != "quick_gelu" && f != "mish" && f != "elu") {
        continue;
      }
      SCOPED_TRACE(n.name);
      Tensor x = from_vector(far).to(dtype).requires_grad_();
      const Tensor y = n.function(x);
      sum(y).backward();
      const bool bounded = f == "tanh" || f == "sigmoid" || f == "erf";
      const auto slopes = x.grad().to_doubles();
      const auto xs = x.to_doubles();
      const auto ys = y.to_doubles();
      for (std::size_t i = 0; i < far.size(); ++i) {
        const double top = bounded ? 1 : xs[i];
        const double bottom = f == "tanh" || f == "erf" ? -1 : f == "elu" ? -0.75 : 0;
        EXPECT_EQ(ys[i], far[i] > 0 ? top : bottom);
        const bool rises = far[i] > 0 && !bounded;  // by 1 but for the last bit; flat is exactly flat
        EXPECT_NEAR(slopes[i], rises ? 1 : 0, rises ? 1.2e-7 : 1e-200);
      }
    }
  }
}

TEST_P(UnaryOnDevice, ActivationsByNameHaveTheirLimits) {
  struct Limits {
    Activation activation;
    double bottom;  ///< at -infinity
    bool bounded;   ///< 1 at infinity, with slope 0; else x, with slope 1
  };
  const Limits all[] = {
      {Activation::relu, 0, false},     {Activation::gelu_erf, 0, false},   {Activation::gelu_tanh, 0, false},
      {Activation::silu, 0, false},     {Activation::sigmoid, 0, true},     {Activation::tanh, -1, true},
      {Activation::softplus, 0, false}, {Activation::quick_gelu, 0, false}, {Activation::mish, 0, false}};
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    for (const Kernel kernel : {Kernel::automatic, Kernel::reference}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + std::string(name(kernel)));
      const auto far = [dtype] { return from_vector<double>({-kInfinity, -1e4, 1e4, kInfinity}).to(dtype); };
      for (const Limits& l : all) {
        SCOPED_TRACE(static_cast<int>(l.activation));
        Tensor x = far().requires_grad_();
        const Tensor y = activate(x, l.activation, kernel);
        y.backward(ones_like(y));
        const double big = l.bounded ? 1 : x.to_doubles()[2];
        const double slope = l.bounded ? 0 : 1;
        EXPECT_EQ(relative_error(y.to_doubles(), {l.bottom, l.bottom, big, l.bounded ? 1 : kInfinity}), 0) << y;
        EXPECT_LE(relative_error(x.grad().to_doubles(), {0, 0, slope, slope}), l.bounded ? 0 : 1.2e-7) << x.grad();
      }
      Tensor x = far().requires_grad_();
      const Tensor y = activate(x, Activation::squared_relu, kernel);
      y.backward(ones_like(y));
      const std::vector<double> values = y.to_doubles(), slopes = x.grad().to_doubles();
      EXPECT_EQ(values[0] + values[1] + slopes[0] + slopes[1], 0);
      EXPECT_GT(values[2], 6e4);  // in f16 infinity, to which 1e8 rounds
      EXPECT_EQ(values[3], kInfinity);
      EXPECT_EQ(slopes[2], 2 * x.to_doubles()[2]);
      EXPECT_EQ(slopes[3], kInfinity);
    }
  }
}

// From their values, which round to 1 there, the slopes would be 0 or wrong by their own size.
TEST_P(UnaryOnDevice, SlopesOfTanhAndSigmoidOutlastTheRoundingOfTheirValues) {
  const std::vector<std::pair<DType, double>> allowed = {
      {DType::f64, 1e-14}, {DType::f32, 1e-6}, {DType::bf16, 0x1p-8}, {DType::f16, 0x1p-10}};
  for (const auto& [dtype, tolerance] : allowed) {
    for (const bool is_tanh : {true, false}) {
      for (const Kernel kernel : {Kernel::automatic, Kernel::reference}) {
        std::vector<double> points = {-4.5, -3.5, 0, 0.25, 3.5, 4.75};
        if (!is_tanh) points = {-9, -7, 0, 0.25, 7, 9.5};
        if (size_of(dtype) > 2) points.push_back(is_tanh ? 12 : 24);
        SCOPED_TRACE(std::string(is_tanh ? "tanh " : "sigmoid ") + std::string(name(dtype)) + " " +
                     std::string(name(kernel)));
        Tensor x = from_vector(points).to(dtype).requires_grad_();
        sum(activate(x, is_tanh ? Activation::tanh : Activation::sigmoid, kernel)).backward();
        const std::vector<double> slopes = x.grad().to_doubles();
        for (std::size_t i = 0; i < points.size(); ++i) {
          const double c = std::cosh(is_tanh ? points[i] : points[i] / 2);
          const double slope = (is_tanh ? 1 : 0.25) / (c * c);
          EXPECT_NEAR(slopes[i], slope, tolerance * slope) << points[i];
        }
      }
    }
  }
}

TEST_P(UnaryOnDevice, NanStaysNan) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    for (const Named& n : kFunctions) {
      SCOPED_TRACE(std::string(n.name) + " " + std::string(name(dtype)));
      // Enough elements for whole vectors and a tail.
      const Tensor y = n.function(full({37}, kNan, {dtype}));
      for (const double v : y.to_doubles()) EXPECT_TRUE(std::isnan(v)) << v;
    }
  }
}

TEST_P(UnaryOnDevice, LargeAnglesAreReducedExactly) {
  const std::vector<float> x = {1e5F, -3e6F, 1e10F, 3e38F, 0.5F};
  const auto s = sin(from_vector(x)).to_vector<float>();
  const auto c = cos(from_vector(x)).to_vector<float>();
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(s[i], std::sin(static_cast<double>(x[i])), 1e-6) << x[i];
    EXPECT_NEAR(c[i], std::cos(static_cast<double>(x[i])), 1e-6) << x[i];
  }
}

TEST_P(UnaryOnDevice, IntegersKeepTheirDtypeAndWrap) {
  const Tensor i = from_vector<std::int32_t>({-3, 0, 5, -2147483648});
  EXPECT_EQ(abs(i).to_vector<std::int32_t>(), (std::vector<std::int32_t>{3, 0, 5, -2147483648}));
  EXPECT_EQ(neg(i).to_vector<std::int32_t>(), (std::vector<std::int32_t>{3, 0, -5, -2147483648}));
  EXPECT_EQ(sign(i).to_vector<std::int32_t>(), (std::vector<std::int32_t>{-1, 0, 1, -1}));
  EXPECT_EQ(clamp(i, -1, 4).to_vector<std::int32_t>(), (std::vector<std::int32_t>{-1, 0, 4, -1}));
  EXPECT_EQ(square(from_vector<std::uint8_t>({3, 20})).to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{9, 144}));
  EXPECT_EQ((from_vector<std::uint8_t>({250}) + 10).to_vector<std::uint8_t>(), std::vector<std::uint8_t>{4});
  EXPECT_EQ((from_vector<std::int64_t>({7}) * 3 - 1).to_vector<std::int64_t>(), std::vector<std::int64_t>{20});
}

TEST_P(UnaryOnDevice, IntegersAreConvertedWhereTheFunctionNeedsFloatingPoint) {
  const Tensor i = from_vector<std::int64_t>({0, 1, 4});
  EXPECT_EQ(sqrt(i).dtype(), DType::f32);
  EXPECT_EQ(sqrt(i).to_vector<float>(), (std::vector<float>{0, 1, 2}));
  EXPECT_EQ((i / 2).to_vector<float>(), (std::vector<float>{0, 0.5F, 2}));
  EXPECT_EQ((i + 0.5).to_vector<float>(), (std::vector<float>{0.5F, 1.5F, 4.5F}));
  EXPECT_EQ((i + 1).dtype(), DType::i64);
  EXPECT_EQ((i.to(DType::boolean) + 1).to_vector<std::int64_t>(), (std::vector<std::int64_t>{1, 2, 2}));
  EXPECT_EQ((from_vector<float>({1}).to(DType::bf16) * 2.5).dtype(), DType::bf16);
}

TEST_P(UnaryOnDevice, ClassifiesNumbers) {
  const Tensor x = from_vector<float>({0, -1, INFINITY, -INFINITY, NAN});
  const auto list = [](const Tensor& t) { return t.to_doubles(); };
  EXPECT_EQ(list(isnan(x)), (std::vector<double>{0, 0, 0, 0, 1}));
  EXPECT_EQ(list(isinf(x)), (std::vector<double>{0, 0, 1, 1, 0}));
  EXPECT_EQ(list(isfinite(x)), (std::vector<double>{1, 1, 0, 0, 0}));
  EXPECT_EQ(list(logical_not(x)), (std::vector<double>{1, 0, 0, 0, 0}));
  EXPECT_EQ(isnan(x).dtype(), DType::boolean);
  EXPECT_EQ(list(isfinite(arange(3))), (std::vector<double>{1, 1, 1}));
  EXPECT_EQ(list(isinf(arange(3) > 0)), (std::vector<double>{0, 0, 0}));
  EXPECT_FALSE(isfinite(from_vector<float>({1}).requires_grad_()).requires_grad());
}

TEST_P(UnaryOnDevice, InPlaceOverwritesAndClamps) {
  const Tensor x = from_vector<float>({-2, 0.5F, 3}).requires_grad_();
  const Tensor y = x * 1;
  clamp_(y, -1, 1);
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{-1, 0.5F, 1}));
  sum(y * 3).backward();
  EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{0, 3, 0}));

  const Tensor z = x * 1;
  fill_(z, 7);
  EXPECT_EQ(z.to_vector<float>(), (std::vector<float>{7, 7, 7}));
  zero_(z);
  EXPECT_EQ(z.to_vector<float>(), (std::vector<float>{0, 0, 0}));

  const Tensor grid = zeros({3, 4});
  fill_(grid.transpose(0, 1).select(0, 1), 5);
  EXPECT_EQ(grid.to_doubles(), (std::vector<double>{0, 5, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0}));
}

TEST(UnaryErrors, NameTheOpAndSayWhatToDo) {
  const Tensor flags = ones({2, 3}, {DType::boolean});
  EXPECT_EQ(message_of<DtypeError>([&] { static_cast<void>(neg(flags)); }),
            "[neg] takes numbers, got bool of shape [2, 3]; convert it with to()");
  EXPECT_EQ(message_of<DtypeError>([&] { static_cast<void>(abs(flags)); }),
            "[abs] takes numbers, got bool of shape [2, 3]; convert it with to()");
  EXPECT_EQ(message_of<DtypeError>([&] { fill_(arange(3), 0.5); }),
            "[fill_] a floating-point number does not fit in place into a tensor of i64");
  EXPECT_EQ(message_of<AutogradError>([&] { zero_(ones({2}, {.requires_grad = true})); }),
            "[zero_] a leaf that requires grad cannot be changed in place while gradients are recorded; use NoGrad if "
            "that is what you want");
}

}  // namespace
}  // namespace trinix::testing
