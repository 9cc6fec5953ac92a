#pragma once

#include <utility>

#include <trinix/core/generator.h>
#include <trinix/core/kernel.h>
#include <trinix/core/ops/activation.h>
#include <trinix/core/tensor.h>

/// @file
/// Normalisation over the last dim. In all of these x is (..., C), weight and bias are (C) or undefined, of x's dtype;
/// the result has x's shape and dtype. Everything is computed in f32 or wider and rounded once. All throw ShapeError,
/// DtypeError, DeviceError and KernelUnavailable.

namespace trinix {

/// (x - mean) / sqrt(var + eps) * weight + bias, the variance biased. Ba et al., arXiv 1607.06450.
[[nodiscard]] Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5,
                                KernelChoice kernel = {});

/// x / sqrt(mean(x^2) + eps) * weight + bias. Zhang and Sennrich, arXiv 1910.07467. Rounded once, after the weight, as
/// in PyTorch; Hugging Face's Llama rounds 16-bit values before the weight too.
[[nodiscard]] Tensor rms_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-6,
                              KernelChoice kernel = {});

/// activation(rms_norm(x)), without a tensor in between, neither now nor kept for the backward.
[[nodiscard]] Tensor rms_norm_activation(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                         Activation activation, double eps = 1e-6, KernelChoice kernel = {});

/// Dropout of a residual branch before it is added. It draws what dropout(branch, p, generator) would draw in its
/// place, and gives what that would give, without the rounding in between.
struct BranchDropout {
  double p = 0;                    ///< probability of setting an element to 0, in [0, 1]
  Generator* generator = nullptr;  ///< default_generator() if null
};

/// The sum x + branch of a residual connection, and layer_norm(sum): one pass over memory instead of two, forward and
/// backward. x and branch have one shape and dtype. @throws ConfigError for a dropout outside [0, 1].
[[nodiscard]] std::pair<Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& branch, const Tensor& weight = {},
                                                       const Tensor& bias = {}, double eps = 1e-5,
                                                       KernelChoice kernel = {}, BranchDropout dropout = {});

/// The same with rms_norm(sum).
[[nodiscard]] std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& branch, const Tensor& weight = {},
                                                     const Tensor& bias = {}, double eps = 1e-6,
                                                     KernelChoice kernel = {}, BranchDropout dropout = {});

}  // namespace trinix
