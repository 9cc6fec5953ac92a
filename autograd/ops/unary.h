#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/ops/activation.h>
#include <trinix/core/tensor.h>

/// @file
/// Elementwise functions of one tensor. The result has x's shape and dtype; functions that need floating point convert
/// integers to f32 first. 16-bit storage is computed in f32.

namespace trinix {

[[nodiscard]] Tensor neg(const Tensor& x);
/// The gradient at 0 is 0.
[[nodiscard]] Tensor abs(const Tensor& x);
/// -1, 0 or 1; the gradient is 0.
[[nodiscard]] Tensor sign(const Tensor& x);
[[nodiscard]] Tensor square(const Tensor& x);
/// min(max(x, low), high); the gradient is 1 inside and on the bounds, 0 outside.
[[nodiscard]] Tensor clamp(const Tensor& x, Scalar low, Scalar high);
[[nodiscard]] Tensor logical_not(const Tensor& x);

[[nodiscard]] Tensor exp(const Tensor& x);
[[nodiscard]] Tensor expm1(const Tensor& x);
[[nodiscard]] Tensor log(const Tensor& x);
[[nodiscard]] Tensor log1p(const Tensor& x);
[[nodiscard]] Tensor log2(const Tensor& x);
[[nodiscard]] Tensor sqrt(const Tensor& x);
[[nodiscard]] Tensor rsqrt(const Tensor& x);
[[nodiscard]] Tensor reciprocal(const Tensor& x);
[[nodiscard]] Tensor sin(const Tensor& x);
[[nodiscard]] Tensor cos(const Tensor& x);
[[nodiscard]] Tensor tan(const Tensor& x);
[[nodiscard]] Tensor tanh(const Tensor& x);
[[nodiscard]] Tensor sigmoid(const Tensor& x);
[[nodiscard]] Tensor erf(const Tensor& x);
/// Rounding functions have gradient 0. round() rounds halves to even.
[[nodiscard]] Tensor floor(const Tensor& x);
[[nodiscard]] Tensor ceil(const Tensor& x);
[[nodiscard]] Tensor round(const Tensor& x);
[[nodiscard]] Tensor trunc(const Tensor& x);
/// Booleans, without gradient.
[[nodiscard]] Tensor isnan(const Tensor& x);
[[nodiscard]] Tensor isinf(const Tensor& x);
[[nodiscard]] Tensor isfinite(const Tensor& x);

// Activations; the formulas stand at UnaryFn (core/ops/elementwise.h). ------------------------------------------------
/// The gradient at 0 is 0.
[[nodiscard]] Tensor relu(const Tensor& x);
[[nodiscard]] Tensor leaky_relu(const Tensor& x, double negative_slope = 0.01);
[[nodiscard]] Tensor elu(const Tensor& x, double alpha = 1.0);
[[nodiscard]] Tensor silu(const Tensor& x);
[[nodiscard]] Tensor softplus(const Tensor& x);
enum class Gelu : std::uint8_t { erf, tanh };
[[nodiscard]] Tensor gelu(const Tensor& x, Gelu form = Gelu::erf);
[[nodiscard]] Tensor quick_gelu(const Tensor& x);
[[nodiscard]] Tensor squared_relu(const Tensor& x);
[[nodiscard]] Tensor mish(const Tensor& x);

/// The one of them that is named. Kernel::reference composes it of simpler functions, with the gradient that follows.
/// @throws KernelUnavailable for a named kernel that does not exist.
[[nodiscard]] Tensor activate(const Tensor& x, Activation activation, KernelChoice kernel = {});

// In place; @throws as the in-place forms of arithmetic.h.
const Tensor& zero_(const Tensor& x);
const Tensor& fill_(const Tensor& x, Scalar value);
const Tensor& clamp_(const Tensor& x, Scalar low, Scalar high);

}  // namespace trinix
