#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// @file
/// Where a tensor lives.

namespace trinix {

/// Kinds of device. A backend registers itself for one of them (core/backend.h).
enum class DeviceType : std::uint8_t { cpu, cuda };

inline constexpr int kDeviceTypes = 2;

/// One device: a kind and an ordinal. `Device{}` is the CPU.
struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  [[nodiscard]] static Device cpu() { return {}; }
  [[nodiscard]] static Device cuda(int index = 0) { return {DeviceType::cuda, index}; }

  friend bool operator==(const Device&, const Device&) = default;

  [[nodiscard]] bool is_cpu() const { return type == DeviceType::cpu; }
  [[nodiscard]] bool is_cuda() const { return type == DeviceType::cuda; }

  /// "cpu", "cuda:0", ...
  [[nodiscard]] std::string to_string() const;

  /// Parses "cpu", "cuda" or "cuda:N". @throws DeviceError for anything else.
  static Device parse(std::string_view text);
};

}  // namespace trinix
