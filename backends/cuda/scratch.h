#pragma once

#include <cstddef>
#include <utility>

#include <trinix/core/backend.h>

/// @file
/// Temporary memory of a kernel.

namespace trinix::cuda {

/// Memory from the caching allocator for the time of one call: whoever is given it next is queued behind its last use.
/// None, and a null pointer, for 0 bytes.
class Scratch {
 public:
  Scratch(std::size_t bytes, const Stream& stream)
      : bytes_(bytes),
        device_(stream.device),
        data_(bytes > 0 ? backend_of(device_).allocate(bytes, device_.index) : nullptr) {}
  ~Scratch() {
    if (data_ != nullptr) backend_of(device_).release(data_, bytes_, device_.index);
  }
  Scratch(Scratch&& other) noexcept
      : bytes_(other.bytes_), device_(other.device_), data_(std::exchange(other.data_, nullptr)) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  std::size_t bytes_;
  Device device_;
  void* data_;
};

}  // namespace trinix::cuda
