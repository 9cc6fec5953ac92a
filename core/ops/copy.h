#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Copy: to[i] = convert(from[i]), for any strides and dtypes.

namespace trinix {

/// `from` is broadcast to the shape of `to` beforehand (strides 0). Conversions: to boolean is `!= 0`; from floating
/// point to an integer truncates; to a 16-bit float rounds to nearest even. Both views are on one device, and `to` has
/// no two indices for one address.
struct Copy {
  static constexpr const char* kName = "copy";
  static constexpr bool kHasReference = false;
  struct Forward {
    View from;
    View to;
    bool accumulate = false;  ///< to += from instead (used to add up gradients)
  };
  using Backward = NoBackward;
};

}  // namespace trinix
