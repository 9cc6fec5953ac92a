#pragma once

#include <cstdint>
#include <span>

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// The Newton-Schulz iteration that brings all singular values of a matrix near 1.

namespace trinix {

/// One step: every singular value s becomes a s + b s^3 + c s^5.
struct QuinticStep {
  double a = 0;
  double b = 0;
  double c = 0;
};

/// `x` (N, rows, cols), row-major: matrices of spectral norm at most 1; overwritten. `out`, of the same shape: the
/// result. With X wide (rows <= cols) each step is
///   A = X X^T,  B = b A + c A A,  X = a X + B X,
/// with X tall A = X^T X and X = a X + X B, so that A is as small as it can be and nothing is transposed in memory. The
/// matrices are rounded to their dtype after every product; products accumulate in f32 or wider. `work` holds
/// 2 N min(rows, cols)^2 elements of that dtype. Jordan et al., "Muon", 2024, kellerjordan.github.io/posts/muon.
struct NewtonSchulz {
  static constexpr const char* kName = "newton_schulz";
  static constexpr bool kHasReference = true;
  struct Forward {
    View x;
    View out;
    View work;
    std::span<const QuinticStep> steps;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
