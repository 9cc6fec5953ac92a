#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// A residual addition and the layer normalisation that follows it, in one pass over memory.

namespace trinix {

/// sum = x + branch;  y = layer_norm(sum) as in LayerNorm (core/ops/layer_norm.h).
///
/// Shapes: x, branch, sum, y (rows, C), row-major; the others as in LayerNorm. The statistics are those of the sum as
/// it is stored. Backward: dx is the gradient of x and of branch alike,
///   dx = dsum + (dx of LayerNorm for dy),
/// where dsum, the gradient that reaches the sum past the normalisation, is optional.
struct AddLayerNorm {
  static constexpr const char* kName = "add_layer_norm";
  static constexpr bool kHasReference = true;
  struct Forward {
    View x;
    View branch;
    View weight;
    View bias;
    View sum;
    View y;
    View mean;
    View rstd;
    double eps;
  };
  struct Backward {
    View sum;
    View weight;
    View mean;
    View rstd;
    View dsum;
    View dy;
    View dx;
    View dweight;
    View dbias;
    bool accumulate_dweight = false;
    bool accumulate_dbias = false;
  };
};

}  // namespace trinix
