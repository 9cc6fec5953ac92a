#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>

#include <trinix/core/device.h>

/// @file
/// A block of device memory shared by a tensor and all its views.

namespace trinix {

/// Owns memory of one device. Counts in-place writes, so that autograd notices when a saved tensor has changed.
class Storage {
 public:
  /// Allocates through the device's backend. @throws OutOfMemory, DeviceError.
  Storage(std::size_t bytes, Device device);
  /// Adopts foreign memory; `deleter` is called with it when the last tensor goes (it may be empty).
  Storage(void* data, std::size_t bytes, Device device, std::function<void(void*)> deleter);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] Device device() const { return device_; }

  /// Number of in-place writes so far.
  [[nodiscard]] std::uint32_t version() const { return version_.load(std::memory_order_relaxed); }
  /// The op that wrote last, for error texts.
  [[nodiscard]] const char* last_writer() const { return last_writer_.load(std::memory_order_relaxed); }
  /// Called by every in-place op with its own name (a string literal).
  void mark_written(const char* op) {
    version_.fetch_add(1, std::memory_order_relaxed);
    last_writer_.store(op, std::memory_order_relaxed);
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Device device_;
  std::function<void(void*)> deleter_;
  bool foreign_ = false;
  std::atomic<std::uint32_t> version_{0};
  std::atomic<const char*> last_writer_{"nothing"};
};

}  // namespace trinix
