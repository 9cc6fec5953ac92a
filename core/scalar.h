#pragma once

#include <concepts>
#include <cstdint>

#include <trinix/core/dtype.h>

/// @file
/// A number on the host: an argument such as the 2 in `x * 2`, or the value of a one-element tensor.

namespace trinix {

/// Holds an integer exactly or a double, and remembers which.
class Scalar {
 public:
  Scalar() = default;
  Scalar(bool value) : integer_(value ? 1 : 0), kind_(DType::boolean) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Scalar(T value) : integer_(static_cast<std::int64_t>(value)), kind_(DType::i64) {}
  template <std::floating_point T>
  Scalar(T value) : real_(static_cast<double>(value)), kind_(DType::f64) {}

  /// boolean, i64 or f64: the category that takes part in promotion.
  [[nodiscard]] DType kind() const { return kind_; }
  [[nodiscard]] double to_double() const { return kind_ == DType::f64 ? real_ : static_cast<double>(integer_); }
  [[nodiscard]] std::int64_t to_int() const {
    return kind_ == DType::f64 ? static_cast<std::int64_t>(real_) : integer_;
  }

  template <class T>
  [[nodiscard]] T to() const {
    if constexpr (std::same_as<T, bool>) {
      return kind_ == DType::f64 ? real_ != 0 : integer_ != 0;
    } else if constexpr (std::integral<T>) {
      return static_cast<T>(to_int());
    } else if constexpr (std::floating_point<T>) {
      return static_cast<T>(to_double());
    } else {
      return T(static_cast<float>(to_double()));
    }
  }

 private:
  double real_ = 0;
  std::int64_t integer_ = 0;
  DType kind_ = DType::i64;
};

/// Dtype of tensor (op) scalar: the scalar only counts when its category is higher than the tensor's; a floating-point
/// scalar then makes f32, an integer makes i64.
[[nodiscard]] inline DType promote(DType tensor, const Scalar& scalar) {
  if (is_floating(tensor) || scalar.kind() == DType::boolean) return tensor;
  if (scalar.kind() == DType::f64) return DType::f32;
  return tensor == DType::boolean ? DType::i64 : tensor;
}

}  // namespace trinix
