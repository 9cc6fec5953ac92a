#include "support/on_device.h"

#include <cmath>
#include <limits>

#include <trinix/optim/grad_statistics.h>

namespace trinix::optim {
namespace {

class GradStatisticsOnDevice : public trinix::testing::OnDevice {};

TEST_P(GradStatisticsOnDevice, SayWhatEachGradientHolds) {
  const auto parameter = [](const std::vector<float>& gradient, DType dtype) {
    Tensor p = zeros({static_cast<std::int64_t>(gradient.size())}, {dtype});
    p.requires_grad_();
    p.set_grad(from_vector(gradient).to(dtype));
    return p;
  };
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const auto all = grad_statistics({{"plain", parameter({3, -4, 0, 0}, DType::f32)},
                                    {"without", zeros({2}, {.requires_grad = true})},
                                    {"half", parameter({30000, -40000}, DType::f16)},  // whose norm f16 cannot hold
                                    {"bad", parameter({1, -infinity, NAN, 0, 2}, DType::bf16)},
                                    {"empty", parameter({}, DType::f32)}},
                                   2);
  ASSERT_EQ(all.size(), 4U);
  EXPECT_EQ(all[0].name, "plain");
  EXPECT_DOUBLE_EQ(all[0].norm, 2.5);
  EXPECT_DOUBLE_EQ(all[0].max_abs, 2);
  EXPECT_DOUBLE_EQ(all[0].zeros, 0.5);
  EXPECT_DOUBLE_EQ(all[0].non_finite, 0);
  EXPECT_EQ(all[1].name, "half");
  EXPECT_NEAR(all[1].norm, 25000, 1);
  EXPECT_DOUBLE_EQ(all[1].max_abs, 20000);
  EXPECT_EQ(all[2].name, "bad");
  EXPECT_FALSE(std::isfinite(all[2].norm));
  EXPECT_DOUBLE_EQ(all[2].zeros, 0.2);
  EXPECT_DOUBLE_EQ(all[2].non_finite, 0.4);
  EXPECT_EQ(all[3].name, "empty");
  EXPECT_EQ(all[3].norm, 0);
  EXPECT_TRUE(grad_statistics({}).empty());
}

INSTANTIATE_TEST_SUITE_P(Devices, GradStatisticsOnDevice, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
