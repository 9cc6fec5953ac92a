#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/ops/norm_arguments.h>

/// @file
/// Layer normalisation over the last dim (Ba et al., arXiv 1607.06450), alone and after a residual addition. Shapes and
/// the backward stand beside the arguments.

namespace trinix {

/// y = (x - mean) * rstd * weight + bias per row; mean and rstd = 1 / sqrt(var + eps) over the last dim, the variance
/// biased and computed by the two-pass formula. No branch and no activation.
struct LayerNorm {
  static constexpr const char* kName = "layer_norm";
  static constexpr bool kHasReference = true;
  using Forward = NormForward;
  using Backward = NormBackward;
};

/// sum = x + branch, then LayerNorm of the sum as it is stored, in one pass over memory. The branch may have dropout.
struct AddLayerNorm {
  static constexpr const char* kName = "add_layer_norm";
  static constexpr bool kHasReference = true;
  using Forward = NormForward;
  using Backward = NormBackward;
};

}  // namespace trinix
