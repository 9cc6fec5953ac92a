#include "naive.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

#include <trinix/core/ops/dropout.h>
#include <trinix/core/threads.h>

namespace trinix::testing {
namespace {

constexpr double kP = 0.3;

/// The mask by the documented rule, times 1 / (1 - p).
std::vector<double> mask(const RandomState& state, std::size_t count, double p) {
  std::vector<double> m(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t bits = philox(state.seed, state.offset + i / 4).x[i % 4];
    m[i] = dropout_keeps(bits, dropout_threshold(p)) ? 1 / (1 - p) : 0;
  }
  return m;
}

TEST(Dropout, MatchesReference) {
  run_op_case({.name = "dropout",
               .inputs = {{5, 7, 9}},
               .function =
                   [](const auto& x, KernelChoice) {
                     Generator generator(11);
                     return dropout(x[0], kP, &generator);
                   },
               .reference =
                   [](const auto& in) {
                     Array y = in[0];
                     const auto m = mask({11, 0}, y.values.size(), kP);
                     for (std::size_t i = 0; i < m.size(); ++i) y[i] *= m[i];
                     return y;
                   }});
}

class DropoutOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, DropoutOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(DropoutOnDevice, BackwardDrawsTheForwardsMask) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    Tensor x = ones({37, 211}, {dtype}).requires_grad_();
    const Tensor y = dropout(x, 0.5);
    y.backward(ones_like(y));
    EXPECT_EQ(x.grad().to_doubles(), y.to_doubles()) << name(dtype);
    // A second time, which adds to what is there.
    const Tensor z = dropout(x, 0.5);
    z.backward(ones_like(z));
    const auto a = y.to_doubles(), b = z.to_doubles(), total = x.grad().to_doubles();
    EXPECT_NE(a, b);
    for (std::size_t i = 0; i < total.size(); ++i) ASSERT_EQ(total[i], a[i] + b[i]);
  }
}

TEST_P(DropoutOnDevice, MaskFollowsTheLogicalIndexOfAView) {
  Generator a(5), b(5);
  const Tensor dense = randn({60, 45});
  const Tensor view = dense.transpose(0, 1).contiguous().transpose(0, 1);
  EXPECT_EQ(dropout(view, 0.4, &a).to_vector<float>(), dropout(dense, 0.4, &b).to_vector<float>());
}

TEST_P(DropoutOnDevice, KeepsTheRightShare) {
  const int n = 1 << 20;
  for (const double p : {0.05, 0.2, 0.5, 0.9}) {
    const auto y = dropout(ones({n}, {DType::f64}), p).to_vector<double>();
    const double kept = static_cast<double>(n - std::count(y.begin(), y.end(), 0.0));
    EXPECT_NEAR(kept / n, 1 - p, 5 * std::sqrt(p * (1 - p) / n));
    for (const double v : y) ASSERT_TRUE(v == 0 || v == 1 / (1 - p));
  }
}

TEST(Dropout, Threshold) {
  EXPECT_EQ(dropout_threshold(0), 0U);
  EXPECT_EQ(dropout_threshold(0.5), 0x80000000U);
  EXPECT_EQ(dropout_threshold(1), 0xffffffffU);
  EXPECT_TRUE(dropout_keeps(0, 0));
  EXPECT_FALSE(dropout_keeps(0x7fffffffU, 0x80000000U));
  EXPECT_TRUE(dropout_keeps(0x80000000U, 0x80000000U));
  EXPECT_EQ(dropout_scale(0.75), 4);
  EXPECT_EQ(dropout_scale(1), 0);
}

TEST_P(DropoutOnDevice, ZeroIsTheIdentityAndOneDropsAll) {
  Generator generator(1);
  Tensor x = full({4, 5}, std::numeric_limits<double>::infinity()).requires_grad_();
  EXPECT_TRUE(dropout(x, 0, &generator).same(x));
  const Tensor y = dropout(x, 1, &generator);
  EXPECT_EQ(y.to_vector<float>(), std::vector<float>(20, 0));  // zeros even where x is infinite
  y.backward(ones_like(y));
  EXPECT_EQ(x.grad().to_vector<float>(), std::vector<float>(20, 0));
  EXPECT_EQ(generator.state().offset, 0U);
}

TEST_P(DropoutOnDevice, DropsNanAndInfinityCleanly) {
  const auto y = dropout(full({1000}, std::numeric_limits<double>::quiet_NaN()), 0.5).to_vector<float>();
  EXPECT_TRUE(std::any_of(y.begin(), y.end(), [](float v) { return v == 0; }));
  EXPECT_TRUE(std::any_of(y.begin(), y.end(), [](float v) { return std::isnan(v); }));
}

TEST(Dropout, ThreadsDoNotChangeTheMask) {
  set_num_threads(1);
  Generator a(8), b(8);
  const auto one = dropout(ones({100003}), 0.1, &a).to_vector<float>();
  set_num_threads(2);
  EXPECT_EQ(dropout(ones({100003}), 0.1, &b).to_vector<float>(), one);
  set_num_threads(0);
}

TEST(Dropout, Errors) {
  const auto message = [](double p) {
    return message_of<ConfigError>([p] { static_cast<void>(dropout(ones({2}), p)); });
  };
  EXPECT_EQ(message(1.5), "[dropout] the probability of dropping must be between 0 and 1, got 1.5");
  EXPECT_EQ(message(-0.1), "[dropout] the probability of dropping must be between 0 and 1, got -0.1");
  EXPECT_EQ(message(std::numeric_limits<double>::quiet_NaN()),
            "[dropout] the probability of dropping must be between 0 and 1, got nan");
  EXPECT_THROW(static_cast<void>(dropout(zeros({2}, {DType::i64}), 0.5)), DtypeError);
  EXPECT_EQ(dropout(zeros({0, 3}), 0.5).shape(), Shape({0, 3}));
}

}  // namespace
}  // namespace trinix::testing
