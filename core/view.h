#pragma once

#include <trinix/core/device.h>
#include <trinix/core/dtype.h>
#include <trinix/core/shape.h>

/// @file
/// What a kernel sees of a tensor.

namespace trinix {

/// A plain description of strided memory. Owns nothing. Strides are in elements and never negative; 0 repeats an
/// element.
struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Device device;
  Shape shape;
  Strides strides;
  bool defined = false;  ///< false for an optional argument that was not given

  [[nodiscard]] int rank() const { return shape.size(); }
  /// Size of dim i; a negative i counts from the end.
  [[nodiscard]] std::int64_t size(int i) const { return shape[i < 0 ? i + rank() : i]; }
  [[nodiscard]] std::int64_t stride(int i) const { return strides[i < 0 ? i + rank() : i]; }
  [[nodiscard]] std::int64_t numel() const {
    std::int64_t n = 1;
    for (const std::int64_t d : shape) n *= d;
    return n;
  }
  [[nodiscard]] bool is_contiguous() const {
    if (numel() == 0) return true;
    std::int64_t step = 1;
    for (int i = rank() - 1; i >= 0; --i) {
      if (shape[i] != 1 && strides[i] != step) return false;
      step *= shape[i];
    }
    return true;
  }
  /// The data as T*; the caller has dispatched on dtype.
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace trinix
