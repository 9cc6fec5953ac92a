#pragma once

#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Bounding gradients. Parameters without a gradient are passed over.

namespace trinix::optim {

/// The 2-norm of all gradients, taken as one long vector. Computed in f64, in an order that does not depend on the
/// number of threads; NaN or infinite when a gradient is: check with std::isfinite before a step.
[[nodiscard]] double grad_norm(const std::vector<Tensor>& parameters);

/// The same as one f64 on the device of the gradients, without waiting for it: for Optimizer::step()'s `norm`, and for
/// captured steps. Zero without any gradient. @throws DeviceError when gradients lie on several devices.
[[nodiscard]] Tensor grad_norm_tensor(const std::vector<Tensor>& parameters);

/// The factor that brings a norm down to `max_norm`, at most 1: min(1, max_norm / (norm + 1e-6)), as in PyTorch. Handed
/// to Optimizer::step() as grad_scale, it clips without a pass of its own. @throws ConfigError unless max_norm is
/// positive.
[[nodiscard]] double clip_scale(double norm, double max_norm);

/// Scales all gradients in place so that their norm is at most `max_norm`, and returns the norm that they had. Pascanu
/// et al., arXiv 1211.5063. When that is not finite, nothing is scaled: the caller must look. @throws ConfigError.
double clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm);

/// Bounds every element of every gradient to [-limit, limit]. @throws ConfigError unless limit is positive.
void clip_grad_value_(const std::vector<Tensor>& parameters, double limit);

}  // namespace trinix::optim
