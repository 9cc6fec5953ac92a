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
/// lse, count, loss and dloss are f32, or f64 for f64 logits. V > 0. The forward throws IndexError for a target outside
/// [0, V) that is not ignore_index.
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
  };
};

}  // namespace trinix
