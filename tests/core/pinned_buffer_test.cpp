#include <cstring>
#include <gtest/gtest.h>
#include <numeric>
#include <vector>

#include <trinix/core/error.h>
#include <trinix/core/pinned_buffer.h>

namespace trinix {
namespace {

class PinnedBufferOn : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (!is_available(GetParam())) GTEST_SKIP() << "this machine has no " << GetParam().to_string();
  }
};

TEST_P(PinnedBufferOn, CarriesValuesThereAndBack) {
  const Device device = GetParam();
  const Tensor t = zeros({3, 5}, {DType::i32, device});
  PinnedBuffer there(15 * sizeof(std::int32_t), device), back(64, device);
  std::iota(static_cast<std::int32_t*>(there.data()), static_cast<std::int32_t*>(there.data()) + 15, 7);
  const std::uint32_t version = t.storage()->version();
  there.upload(t);
  EXPECT_GT(t.storage()->version(), version);
  there.wait();
  std::memset(there.data(), 0, 15 * sizeof(std::int32_t));  // it may be filled again
  back.download(t);
  back.wait();
  std::vector<std::int32_t> expected(15);
  std::iota(expected.begin(), expected.end(), 7);
  EXPECT_EQ(std::memcmp(back.data(), expected.data(), 15 * sizeof(std::int32_t)), 0);
  EXPECT_EQ(t.to_vector<std::int32_t>(), expected);
}

TEST_P(PinnedBufferOn, KeepsTheOrderOfTheDevicesWork) {
  const Device device = GetParam();
  const Tensor t = zeros({1}, {DType::f32, device});
  PinnedBuffer a(4, device), b(4, device), result(4, device);
  *static_cast<float*>(a.data()) = 1;
  *static_cast<float*>(b.data()) = 2;
  a.upload(t);
  b.upload(t);
  result.download(t);
  result.wait();
  EXPECT_EQ(*static_cast<float*>(result.data()), 2);
}

TEST_P(PinnedBufferOn, RefusesWhatDoesNotFit) {
  const Device device = GetParam();
  PinnedBuffer buffer(8, device);
  const Tensor large = zeros({3}, {DType::f32, device});
  EXPECT_THROW(buffer.upload(large), ShapeError);
  EXPECT_THROW(buffer.download(zeros({2, 2}, {DType::u8, device}).transpose(0, 1)), ShapeError);
  const Device other = device.is_cpu() ? Device::cuda() : Device::cpu();
  if (is_available(other)) {
    EXPECT_THROW(buffer.upload(zeros({1}, {DType::f32, other})), DeviceError);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, PinnedBufferOn, ::testing::Values(Device::cpu(), Device::cuda()),
                         [](const auto& info) { return std::string(info.param.is_cpu() ? "cpu" : "cuda"); });

TEST(PinnedBuffer, NeedsItsDevice) { EXPECT_THROW(PinnedBuffer(8, Device::cuda(1000)), DeviceError); }

}  // namespace
}  // namespace trinix
