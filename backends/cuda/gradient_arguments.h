#pragma once

#include <trinix/core/ops/gradient_factor.h>

/// @file
/// GradientFactor as a kernel takes it.

namespace trinix::cuda {

struct GradientArguments {
  double grad_scale = 1;
  const float* inverse_scale = nullptr;
  const double* norm = nullptr;
  double max_norm = 0;
  double clip_value = 0;

  explicit GradientArguments(const GradientFactor& f)
      : grad_scale(f.grad_scale),
        inverse_scale(f.inverse_scale.defined ? f.inverse_scale.as<const float>() : nullptr),
        norm(f.norm.defined ? f.norm.as<const double>() : nullptr),
        max_norm(f.max_norm),
        clip_value(f.clip_value) {}

  /// NaN when nothing may be written.
  TRINIX_HOST_DEVICE double factor() const { return gradient_factor(grad_scale, inverse_scale, norm, max_norm); }
};

}  // namespace trinix::cuda
