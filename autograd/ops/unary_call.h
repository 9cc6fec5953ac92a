#pragma once

#include <trinix/core/ops/elementwise.h>
#include <trinix/core/tensor.h>

/// @file
/// The one call behind every elementwise function of one tensor, in unary.cpp and scalar_arithmetic.cpp.

namespace trinix {

/// y = fn(x; a, b) in x's dtype, recorded as `op` with its gradient. @throws DtypeError for a boolean x.
[[nodiscard]] Tensor unary_call(const char* op, UnaryFn fn, const Tensor& x, Scalar a = 0, Scalar b = 0,
                                KernelChoice kernel = {});

/// The same after converting integers and booleans to f32.
[[nodiscard]] Tensor floating_unary_call(const char* op, UnaryFn fn, const Tensor& x, Scalar a = 0, Scalar b = 0);

}  // namespace trinix
