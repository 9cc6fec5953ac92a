#pragma once

#include <cstdint>

#include <trinix/core/dtype.h>

/// @file
/// What a kernel over many tensors sees of each. Shapes mean nothing to it, and a list of thousands stays short.

namespace trinix {

/// `count` elements one after another.
struct Flat {
  void* data = nullptr;
  std::int64_t count = 0;
  DType dtype = DType::f32;

  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(data);
  }
  friend bool operator==(const Flat&, const Flat&) = default;
};

}  // namespace trinix
