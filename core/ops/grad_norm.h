#pragma once

#include <span>

#include <trinix/core/kernel.h>
#include <trinix/core/ops/flat.h>
#include <trinix/core/view.h>

/// @file
/// The norm of a list of tensors, taken as one long vector.

namespace trinix {

/// out[0] = sqrt(sum of squares of all elements of all tensors); `out` holds one f64. Tensors are floating point, of
/// any mix of dtypes. Squares are taken and added up in f64, so that none overflows, and in an order that does not
/// depend on the number of threads. NaN and infinity come through.
struct GradNorm {
  static constexpr const char* kName = "grad_norm";
  static constexpr bool kHasReference = false;
  struct Forward {
    std::span<const Flat> tensors;
    View out;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
