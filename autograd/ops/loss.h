#pragma once

#include <cstdint>

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

// Elementwise losses. Both arguments have one shape, and gradients flow into both. Computed in f32 (f64 for f64), which
// is also the dtype of the loss. @throws ShapeError where shapes differ, DtypeError for integers, DeviceError.

/// (a - b)^2.
[[nodiscard]] Tensor mse_loss(const Tensor& a, const Tensor& b, LossReduction reduction = LossReduction::mean);

struct BceOptions {
  /// Weight of the term of the positive class, broadcast to the logits; undefined: 1. Above 1 it favours recall.
  Tensor pos_weight = {};
  LossReduction reduction = LossReduction::mean;
};

/// Binary cross-entropy of logits x against probabilities y: pos_weight y softplus(-x) + (1 - y) softplus(x). Both
/// terms keep full precision for a logit of any size.
[[nodiscard]] Tensor bce_with_logits(const Tensor& logits, const Tensor& targets, const BceOptions& options = {});

struct KlDivOptions {
  bool log_target = false;  ///< the targets are given as their logarithms
  enum class Reduction : std::uint8_t {
    batch_mean,  ///< the sum over everything, divided by the first dim: the divergence as it is defined
    mean,        ///< over all elements
    sum,
    none
  };
  Reduction reduction = Reduction::batch_mean;
};

/// Kullback-Leibler divergence of the targets p from the distribution q whose logarithm is given: p (log p - log q) for
/// each class, 0 where p is 0. Mind the order of the arguments, which is PyTorch's.
[[nodiscard]] Tensor kl_div(const Tensor& log_q, const Tensor& targets, const KlDivOptions& options = {});

}  // namespace trinix
