#pragma once

#include <trinix/core/generator.h>
#include <trinix/core/ops/activation.h>
#include <trinix/core/view.h>

/// @file
/// What the contracts of normalisation (core/ops/layer_norm.h, core/ops/rms_norm.h) are called with. They are steps of
/// one computation over rows of C elements, and each names the steps that it has; what it has not is left at its
/// default, an undefined view above all:
///
///   s    = x + keep(branch) / (1 - dropout)      a branch: the residual addition, rounded to the dtype once and stored
///   z    = (s - mean) * rstd * weight + bias     RMS normalisation has no mean; weight and bias are optional
///   y    = activation(z)                         an activation
///
/// Statistics and everything between loads and stores are in compute_type(dtype), f32 or wider: y is rounded once.

namespace trinix {

/// Shapes: x, branch, sum, y (rows, C), row-major and of one dtype; weight, bias (C) of the same dtype; mean, rstd
/// (rows), in compute_type(dtype).
struct NormForward {
  View x;
  View branch = {};
  View weight = {};
  View bias = {};
  View sum = {};  ///< where s goes when there is a branch
  View y;
  View mean = {};  ///< saved for the backward
  View rstd;       ///< saved for the backward
  double eps;
  /// Of the branch, in [0, 1): element i in row-major order is kept as in core/ops/dropout.h, with the same numbers.
  double dropout = 0;
  RandomState random = {};
  Activation activation = {};  ///< read by ops that have one
};

/// With dz = dy * activation'(z), g = dz * weight and xhat = (s - mean) * rstd,
///   ds      = rstd * (g - mean(g) - xhat * mean(g * xhat)) + dsum     RMS normalisation has no mean(g)
///   dx      = ds,  dbranch = keep(ds) / (1 - dropout), where the mask is drawn again
///   dweight = sum over rows of dz * xhat,  dbias = sum over rows of dz.
/// Views of gradients that are not wanted are undefined. dweight and dbias are added to what is there when `accumulate`
/// is set, and overwritten otherwise; they depend on nothing but the arguments, not on threads or timing.
struct NormBackward {
  View s;  ///< what was normalised: x, or the sum as stored
  View weight = {};
  View bias = {};  ///< for the activation
  View mean = {};
  View rstd;
  View dsum = {};  ///< the gradient that reaches the sum past the normalisation; optional
  View dy;
  View dx = {};
  View dbranch = {};  ///< only when there is dropout: otherwise dx is the branch's gradient too
  View dweight = {};
  View dbias = {};
  bool accumulate_dweight = false;
  bool accumulate_dbias = false;
  double dropout = 0;
  RandomState random = {};
  Activation activation = {};
};

}  // namespace trinix
