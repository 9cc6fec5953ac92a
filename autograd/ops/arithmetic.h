#pragma once

#include <trinix/core/tensor.h>

/// @file
/// Elementwise arithmetic on two tensors, or a tensor and a number. Shapes broadcast by NumPy's rule; mixed dtypes are
/// converted to promote(a, b) first (core/dtype.h), whose gradient is converted back. Integers wrap on overflow.
/// @throws ShapeError when shapes do not broadcast, DeviceError when devices differ, DtypeError where noted.

namespace trinix {

[[nodiscard]] Tensor add(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor sub(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor mul(const Tensor& a, const Tensor& b);
/// True division: integers are converted to f32 first.
[[nodiscard]] Tensor div(const Tensor& a, const Tensor& b);
/// a ^ b; integers are converted to f32 first. The gradient with respect to b is a^b ln a, and 0 where a is 0.
[[nodiscard]] Tensor pow(const Tensor& a, const Tensor& b);
/// Elementwise larger; NaN if either is NaN. Where both are equal each receives half of the gradient.
[[nodiscard]] Tensor maximum(const Tensor& a, const Tensor& b);
/// Elementwise smaller; otherwise as maximum().
[[nodiscard]] Tensor minimum(const Tensor& a, const Tensor& b);

[[nodiscard]] Tensor add(const Tensor& a, Scalar b);
[[nodiscard]] Tensor sub(const Tensor& a, Scalar b);
[[nodiscard]] Tensor sub(Scalar a, const Tensor& b);
[[nodiscard]] Tensor mul(const Tensor& a, Scalar b);
[[nodiscard]] Tensor div(const Tensor& a, Scalar b);
[[nodiscard]] Tensor div(Scalar a, const Tensor& b);
[[nodiscard]] Tensor pow(const Tensor& a, Scalar b);

// In place: a keeps its shape and dtype; b is broadcast and converted to them.
// @throws AutogradError for a leaf that requires grad or a view, while gradients are recorded.
const Tensor& add_(const Tensor& a, const Tensor& b);
const Tensor& sub_(const Tensor& a, const Tensor& b);
const Tensor& mul_(const Tensor& a, const Tensor& b);
const Tensor& add_(const Tensor& a, Scalar b);
const Tensor& mul_(const Tensor& a, Scalar b);

[[nodiscard]] inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
[[nodiscard]] inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
[[nodiscard]] inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
[[nodiscard]] inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
[[nodiscard]] inline Tensor operator+(const Tensor& a, Scalar b) { return add(a, b); }
[[nodiscard]] inline Tensor operator+(Scalar a, const Tensor& b) { return add(b, a); }
[[nodiscard]] inline Tensor operator-(const Tensor& a, Scalar b) { return sub(a, b); }
[[nodiscard]] inline Tensor operator-(Scalar a, const Tensor& b) { return sub(a, b); }
[[nodiscard]] inline Tensor operator*(const Tensor& a, Scalar b) { return mul(a, b); }
[[nodiscard]] inline Tensor operator*(Scalar a, const Tensor& b) { return mul(b, a); }
[[nodiscard]] inline Tensor operator/(const Tensor& a, Scalar b) { return div(a, b); }
[[nodiscard]] inline Tensor operator/(Scalar a, const Tensor& b) { return div(a, b); }
[[nodiscard]] inline Tensor operator-(const Tensor& a) { return mul(a, -1); }

/// Sums `t` over the dims along which `shape` was broadcast to t's shape: the gradient of broadcasting.
[[nodiscard]] Tensor sum_to(const Tensor& t, const Shape& shape);

}  // namespace trinix
