#pragma once

#include <limits>

#include <trinix/core/philox.h>
#include <trinix/core/view.h>

/// @file
/// What happens to gradients on their way into an update, without a pass of its own and without the host reading
/// anything.

namespace trinix {

/// g = clamp(grad * scale * clip, -clip_value, clip_value) with
///   scale = grad_scale * inverse_scale,
///   clip  = min(1, max_norm / (|scale| norm + 1e-6)), 1 without a norm.
/// When the norm is not finite, nothing at all is written: neither parameters nor state.
struct GradientFactor {
  double grad_scale = 1;  ///< known on the host
  View inverse_scale{};   ///< one f32 on the device; 1 when not given. What a loss was scaled by is taken back with it
  View norm{};            ///< one f64 on the device: the norm of the gradients as they are, before any scale
  double max_norm = std::numeric_limits<double>::infinity();
  double clip_value = std::numeric_limits<double>::infinity();
};

/// The product of scale and clip; NaN when nothing may be written. Pointers may be null.
TRINIX_HOST_DEVICE inline double gradient_factor(double grad_scale, const float* inverse_scale, const double* norm,
                                                 double max_norm) {
  const double scale = inverse_scale == nullptr ? grad_scale : grad_scale * static_cast<double>(*inverse_scale);
  if (norm == nullptr) return scale;
  const double scaled = *norm * (scale < 0 ? -scale : scale);
  const double nothing = *norm - *norm;  // 0, or NaN when the norm is not finite
  const double clip = max_norm / (scaled + 1e-6);
  return (clip < 1 ? scale * clip : scale) + nothing;
}

/// The same on the host, from the contract.
[[nodiscard]] inline double gradient_factor(const GradientFactor& f) {
  return gradient_factor(f.grad_scale, f.inverse_scale.defined ? f.inverse_scale.as<const float>() : nullptr,
                         f.norm.defined ? f.norm.as<const double>() : nullptr, f.max_norm);
}

}  // namespace trinix
