#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Scan: running sums along one dim.

namespace trinix {

/// out[i] = x[0] + ... + x[i] along `dim`; with `reverse`, x[i] + ... + x[n-1], which is the gradient of the former.
/// Any strides. Floating-point sums accumulate in f32 or wider and have x's dtype; integers and booleans sum in i64,
/// the dtype of out.
struct Scan {
  static constexpr const char* kName = "scan";
  static constexpr bool kHasReference = false;
  struct Forward {
    View x;
    View out;
    int dim;
    bool reverse = false;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
