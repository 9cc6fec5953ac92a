#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/scalar.h>
#include <trinix/core/view.h>

/// @file
/// Fill: out[i] = value. Range: out[i] = start + i * step.

namespace trinix {

struct Fill {
  static constexpr const char* kName = "fill";
  static constexpr bool kHasReference = false;
  struct Forward {
    View out;
    Scalar value;
  };
  using Backward = NoBackward;
};

/// `out` has one dim. Integers are computed exactly, floating point in f64 and rounded once.
struct Range {
  static constexpr const char* kName = "range";
  static constexpr bool kHasReference = false;
  struct Forward {
    View out;
    Scalar start;
    Scalar step;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
