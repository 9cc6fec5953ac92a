#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Softmax cross-entropy against class indices.

namespace trinix {

/// What becomes of the losses of the rows. mean: over the targets that count, 0 when there are none; none: one loss per
/// row, 0 where the target does not count.
enum class LossReduction : std::uint8_t { mean, sum, none };

/// Of row i with target t: lse = log(sum_j exp(x_j));
///   loss = lse - (1 - s) x_t - s mean_j(x_j),  s the label smoothing (Szegedy et al., arXiv 1512.00567);
///   dx_j = (exp(x_j - lse) - (1 - s) [j = t] - s / V) * dloss  (/ count for the mean),
/// both 0 where t is ignore_index. Computed in f32, or f64 for f64 logits.
///
/// Shapes: logits, dlogits (rows, V), row-major; targets row-major with `rows` elements, i64 or i32; lse (rows), saved
/// for the backward; count (), the number of targets that count, also saved; loss and dloss () or, for none, (rows).
/// lse, count, loss and dloss are f32, or f64 for f64 logits. V > 0. A target outside [0, V) that is not ignore_index
/// is an IndexError, thrown as CheckIndex describes; a device that throws it later treats the target as ignored.
///
/// The gradient can be had in two ways. Either the backward computes it from logits and lse; or the forward, if given
/// `dlogits`, computes it on the way, for dloss = 1, and the backward with `scale_only` multiplies it by dloss where
/// that is not 1. The second way may write the gradient over the logits: `dlogits` has their memory or memory of its
/// own.
struct CrossEntropy {
  static constexpr const char* kName = "cross_entropy";
  static constexpr bool kHasReference = true;
  struct Forward {
    View logits;
    View targets;
    View loss;
    View lse;
    View count;
    LossReduction reduction;
    std::int64_t ignore_index;
    double label_smoothing;
    View dlogits = {};  ///< optional
  };
  struct Backward {
    View logits;
    View targets;
    View lse;
    View count;
    View dloss;
    View dlogits;
    LossReduction reduction;
    std::int64_t ignore_index;
    double label_smoothing;
    bool scale_only = false;  ///< only dlogits, dloss and reduction are read
  };
};

}  // namespace trinix
