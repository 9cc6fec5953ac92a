#pragma once

#include <trinix/core/ops/cross_entropy.h>
#include <trinix/core/tensor.h>

/// @file
/// Losses.

namespace trinix {

struct CrossEntropyOptions {
  std::int64_t ignore_index = -100;  ///< targets of this value count for nothing
  double label_smoothing = 0;        ///< weight spread evenly over all classes, in [0, 1)
  using Reduction = LossReduction;
  /// mean: over targets that count (0 when there are none); sum; none: one loss per target.
  Reduction reduction = Reduction::mean;
  /// Lets the gradient take the place of the logits: it is computed on the way forward, and neither the backward nor a
  /// second tensor of the logits' size is needed. Meant for logits that nothing else uses afterwards: they are lost,
  /// and an op that saved them for its own backward throws there. Heeded when the logits require grad; in row-major
  /// order (otherwise a copy of them is overwritten); and by every kernel but the composed reference. Refused for a
  /// leaf. The backward runs once. Gradients are rounded to the dtype of the logits before a dloss other than 1 scales
  /// them.
  bool overwrite_logits = false;
};

/// Softmax cross-entropy of logits (..., V), floating point, against class indices (...), i64 or i32. The loss is f32
/// (f64 for f64 logits) whatever the dtype of the logits.
/// @throws ShapeError, DtypeError; ConfigError; IndexError naming a target outside [0, V) and its place (on CUDA at the
/// next synchronisation, see core/ops/check_index.h); AutogradError for overwriting a leaf; KernelUnavailable.
[[nodiscard]] Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options = {},
                                   KernelChoice kernel = {});

/// Mean of (a - b)^2. @throws ShapeError unless both have one shape.
[[nodiscard]] Tensor mse_loss(const Tensor& a, const Tensor& b);

}  // namespace trinix
