#include "support/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/core/backend.h>
#include <trinix/core/error.h>
#include <trinix/core/tensor.h>

namespace trinix {
namespace {

using testing::message_of;

TEST(Device, ParsesItsOwnNames) {
  EXPECT_EQ(Device::parse("cpu"), Device::cpu());
  EXPECT_EQ(Device::parse("cuda"), Device::cuda(0));
  EXPECT_EQ(Device::parse("cuda:0"), Device::cuda(0));
  EXPECT_EQ(Device::parse("cuda:17"), Device::cuda(17));
  for (const Device d : {Device::cpu(), Device::cuda(), Device::cuda(3)}) EXPECT_EQ(Device::parse(d.to_string()), d);
}

TEST(Device, RefusesEverythingElse) {
  for (const char* text : {"", " ", "CPU", "cpu ", "cpu:0", "cuda:", "cuda:-1", "cuda:+1", "cuda: 1", "cuda:1x",
                           "cuda:1.0", "cuda:0x1", "cuda:99999999999", "gpu", "metal"}) {
    EXPECT_EQ(message_of<DeviceError>([&] { static_cast<void>(Device::parse(text)); }),
              "[device] unknown device '" + std::string(text) + "': write cpu, cuda or cuda:N");
  }
}

TEST(Device, TheCpuIsAlwaysThere) {
  EXPECT_TRUE(is_available(Device::cpu()));
  EXPECT_EQ(backend_of(Device::cpu()).device_count(), 1);
  EXPECT_FALSE(backend_of(Device::cpu()).describe(0).empty());
  synchronize(Device::cpu());
}

TEST(Device, AMissingDeviceIsAnErrorThatSaysWhy) {
  const Device missing = Device::cuda(4096);
  EXPECT_FALSE(is_available(missing));
  if (is_available(Device::cuda())) {
    const int cards = backend_of(Device::cuda()).device_count();
    EXPECT_EQ(message_of<DeviceError>([&] { static_cast<void>(zeros({2}, {.device = missing})); }),
              "[device] cuda:4096 was asked for, but there " + std::string(cards == 1 ? "is " : "are ") +
                  std::to_string(cards) + ", numbered from 0");
  }
  EXPECT_THAT(message_of<DeviceError>([&] { static_cast<void>(zeros({2}, {.device = missing})); }),
              ::testing::StartsWith("[device] cuda:4096 was asked for, but "));
  EXPECT_THROW(static_cast<void>(zeros({2}).to(missing)), DeviceError);
  const std::vector<float> values = {1, 2};
  EXPECT_THROW(static_cast<void>(from_vector(values, {.device = missing})), DeviceError);
}

TEST(Device, OtherOrdinalsOfTheCpuAreErrors) {
  EXPECT_FALSE(is_available({DeviceType::cpu, 1}));
  EXPECT_FALSE(is_available({DeviceType::cpu, -1}));
  EXPECT_EQ(message_of<DeviceError>([] {
              static_cast<void>(zeros({2}, {.device = {DeviceType::cpu, 1}}));
            }),
            "[device] cpu:1 was asked for, but there is 1, numbered from 0");
}

}  // namespace
}  // namespace trinix
