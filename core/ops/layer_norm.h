#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Layer normalisation over the last dim (Ba et al., arXiv 1607.06450).

namespace trinix {

/// y = (x - mean) * rstd * weight + bias per row; mean and rstd = 1 / sqrt(var + eps) over the last dim, the variance
/// biased and computed by the two-pass formula, in f32 or wider.
///
/// Shapes: x, y (rows, C), row-major; weight, bias (C), optional; mean, rstd (rows), in compute_type(dtype of x), saved
/// for the backward. Backward: with g = dy * weight and xhat = (x - mean) * rstd,
///   dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  dweight = sum over rows of dy * xhat,  dbias = sum of dy.
/// dweight and dbias are added to when `accumulate` is set, overwritten otherwise; undefined views are not wanted.
struct LayerNorm {
  static constexpr const char* kName = "layer_norm";
  static constexpr bool kHasReference = true;
  struct Forward {
    View x;
    View weight;
    View bias;
    View y;
    View mean;
    View rstd;
    double eps;
  };
  struct Backward {
    View x;
    View weight;
    View mean;
    View rstd;
    View dy;
    View dx;
    View dweight;
    View dbias;
    bool accumulate_dweight = false;
    bool accumulate_dbias = false;
  };
};

}  // namespace trinix
