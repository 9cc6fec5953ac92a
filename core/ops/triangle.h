#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Triangle: one side of a diagonal of the last two dims.

namespace trinix {

/// y[.., i, j] = x[.., i, j] where j - i <= diagonal (lower) or j - i >= diagonal (upper), else 0. x and y share dtype
/// and shape, two dims or more, any strides. The gradient is the same op on dy.
struct Triangle {
  static constexpr const char* kName = "triangle";
  static constexpr bool kHasReference = false;
  struct Forward {
    View x;
    View y;
    std::int64_t diagonal;
    bool upper;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
