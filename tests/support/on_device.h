#pragma once

#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <trinix/trinix.h>

/// @file
/// Tests that run once on every device of the machine.

namespace trinix::testing {

/// Devices to test: the CPU, and the first CUDA device where there is one.
[[nodiscard]] inline std::vector<Device> test_devices() {
  std::vector<Device> devices = {Device::cpu()};
  if (is_available(Device::cuda())) devices.push_back(Device::cuda());
  return devices;
}

/// "cpu" or "cuda", as the last part of a test's name: --gtest_filter='*cuda' then picks a device.
inline std::string device_name(const ::testing::TestParamInfo<Device>& info) {
  return info.param.is_cpu() ? "cpu" : "cuda";
}

/// The device of a test's parameter, which may say more: then there is a function for it beside its type.
[[nodiscard]] inline Device device_of(Device device) { return device; }

/// A fixture in whose tests the factories make their tensors on the device under test: the members below have the names
/// of the library's factories and hide them. Derive a fixture per file, write TEST_P, and instantiate with
///   INSTANTIATE_TEST_SUITE_P(Devices, MineOnDevice, ::testing::ValuesIn(test_devices()), device_name);
template <class Param>
class OnDeviceOf : public ::testing::TestWithParam<Param> {
 protected:
  [[nodiscard]] static Device device() { return device_of(::testing::TestWithParam<Param>::GetParam()); }

  template <class T>
  [[nodiscard]] static Tensor from_vector(const std::vector<T>& values, const TensorOptions& options = {}) {
    return trinix::from_vector(values, here(options));
  }
  template <class T>
  [[nodiscard]] static Tensor from_vector(const std::vector<T>& values, const Shape& shape,
                                          const TensorOptions& options = {}) {
    return trinix::from_vector(values, shape, here(options));
  }
  [[nodiscard]] static Tensor empty(const Shape& shape, const TensorOptions& options = {}) {
    return trinix::empty(shape, here(options));
  }
  [[nodiscard]] static Tensor zeros(const Shape& shape, const TensorOptions& options = {}) {
    return trinix::zeros(shape, here(options));
  }
  [[nodiscard]] static Tensor ones(const Shape& shape, const TensorOptions& options = {}) {
    return trinix::ones(shape, here(options));
  }
  [[nodiscard]] static Tensor full(const Shape& shape, Scalar value, const TensorOptions& options = {}) {
    return trinix::full(shape, value, here(options));
  }
  [[nodiscard]] static Tensor arange(std::int64_t end) { return trinix::arange(end).to(device()); }
  [[nodiscard]] static Tensor arange(Scalar start, Scalar end) { return trinix::arange(start, end).to(device()); }
  [[nodiscard]] static Tensor eye(std::int64_t n) { return trinix::eye(n, -1, here({})); }
  [[nodiscard]] static Tensor rand(const Shape& shape, const TensorOptions& options = {},
                                   Generator* generator = nullptr) {
    return trinix::rand(shape, here(options), generator);
  }
  [[nodiscard]] static Tensor randn(const Shape& shape, const TensorOptions& options = {},
                                    Generator* generator = nullptr) {
    return trinix::randn(shape, here(options), generator);
  }
  [[nodiscard]] static Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape,
                                      const TensorOptions& options = {DType::i64}, Generator* generator = nullptr) {
    return trinix::randint(low, high, shape, here(options), generator);
  }

 private:
  static TensorOptions here(TensorOptions options) {
    options.device = device();
    return options;
  }
};

using OnDevice = OnDeviceOf<Device>;

}  // namespace trinix::testing
