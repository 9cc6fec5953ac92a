#pragma once

#include <utility>

#include <trinix/core/tensor.h>

/// @file
/// Reductions over any dims; an empty list of dims means all of them. With `keepdim` the reduced dims stay with size 1.
/// Sums accumulate in f32 or wider whatever the storage.
/// @throws IndexError for a dim out of range or given twice; ShapeError where nothing is left to choose from.

namespace trinix {

/// Integers and booleans sum in i64.
[[nodiscard]] Tensor sum(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// Floating point; integers are converted to f32 first. Over nothing: NaN.
[[nodiscard]] Tensor mean(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// The gradient is right with zeros among the factors too.
[[nodiscard]] Tensor prod(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// Variance with `correction` subtracted from the count (1: unbiased, 0: biased).
[[nodiscard]] Tensor var(const Tensor& x, const Dims& dims = {}, double correction = 1, bool keepdim = false);
/// Largest element; equal ones share the gradient evenly. NaN if any element is NaN.
[[nodiscard]] Tensor max(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
[[nodiscard]] Tensor min(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// p-norm for p = 1, 2 or any positive number. The gradient at zero is zero.
[[nodiscard]] Tensor norm(const Tensor& x, double p = 2, const Dims& dims = {}, bool keepdim = false);
/// log(sum(exp(x))), computed without overflow; -inf over only -inf, with gradient 0.
[[nodiscard]] Tensor logsumexp(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// Booleans, without gradient.
[[nodiscard]] Tensor any(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
[[nodiscard]] Tensor all(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// i64 index of the first largest or smallest element along `dim`.
[[nodiscard]] Tensor argmax(const Tensor& x, std::int64_t dim, bool keepdim = false);
[[nodiscard]] Tensor argmin(const Tensor& x, std::int64_t dim, bool keepdim = false);
/// Sums of all elements up to and including each, along `dim`.
[[nodiscard]] Tensor cumsum(const Tensor& x, std::int64_t dim);

}  // namespace trinix
