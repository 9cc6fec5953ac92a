#pragma once

#include <trinix/core/tensor.h>

/// @file
/// Comparisons, logic and selection. Comparisons give booleans and have no gradient; operands broadcast and promote as
/// in arithmetic.h.

namespace trinix {

[[nodiscard]] Tensor operator==(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor operator!=(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor operator<(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor operator<=(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor operator>(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor operator>=(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor operator==(const Tensor& a, Scalar b);
[[nodiscard]] Tensor operator!=(const Tensor& a, Scalar b);
[[nodiscard]] Tensor operator<(const Tensor& a, Scalar b);
[[nodiscard]] Tensor operator<=(const Tensor& a, Scalar b);
[[nodiscard]] Tensor operator>(const Tensor& a, Scalar b);
[[nodiscard]] Tensor operator>=(const Tensor& a, Scalar b);

/// Operands are converted to boolean (x != 0) first.
[[nodiscard]] Tensor logical_and(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor logical_or(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor logical_xor(const Tensor& a, const Tensor& b);

/// condition ? a : b, elementwise; the three broadcast together. @throws DtypeError unless condition is boolean.
[[nodiscard]] Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
/// `value` where mask is true, x elsewhere. @throws DtypeError unless mask is boolean.
[[nodiscard]] Tensor masked_fill(const Tensor& x, const Tensor& mask, Scalar value);

}  // namespace trinix
