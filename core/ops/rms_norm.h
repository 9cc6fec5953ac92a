#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/ops/norm_arguments.h>

/// @file
/// Root mean square normalisation over the last dim (Zhang and Sennrich, arXiv 1910.07467), alone, after a residual
/// addition, and before an activation. Shapes and the backward stand beside the arguments.

namespace trinix {

/// y = x * rstd * weight + bias per row; rstd = 1 / sqrt(mean(x^2) + eps) over the last dim. No mean, branch or
/// activation.
///
/// For 16-bit dtypes the products are f32 and rounded once, as in PyTorch's rms_norm. Hugging Face's Llama rounds x *
/// rstd to the dtype before it multiplies by the weight: a second rounding of up to half a unit in the last place.
struct RmsNorm {
  static constexpr const char* kName = "rms_norm";
  static constexpr bool kHasReference = true;
  using Forward = NormForward;
  using Backward = NormBackward;
};

/// sum = x + branch, then RmsNorm of the sum as it is stored, in one pass over memory. The branch may have dropout.
struct AddRmsNorm {
  static constexpr const char* kName = "add_rms_norm";
  static constexpr bool kHasReference = true;
  using Forward = NormForward;
  using Backward = NormBackward;
};

/// y = activation(RmsNorm of x), without storing what lies between: the backward computes it again from x.
struct RmsNormActivation {
  static constexpr const char* kName = "rms_norm_activation";
  static constexpr bool kHasReference = true;
  using Forward = NormForward;
  using Backward = NormBackward;
};

}  // namespace trinix
