#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Sort and TopK along one dim.

namespace trinix {

/// Every line of x along `dim` in order. Stable: equal values keep their order, in both directions. NaN counts as
/// larger than everything, -0 equals +0. values has x's shape and dtype; indices (i64) holds the positions; any
/// strides.
struct Sort {
  static constexpr const char* kName = "sort";
  static constexpr bool kHasReference = false;
  struct Forward {
    View x;
    View values;
    View indices;
    int dim;
    bool descending;
  };
  using Backward = NoBackward;  // ScatterAdd
};

/// The first k = values.size(dim) of what Sort would give, in its order (descending for `largest`). The rest need not
/// be sorted, and is not on the CPU.
struct TopK {
  static constexpr const char* kName = "topk";
  static constexpr bool kHasReference = false;
  struct Forward {
    View x;
    View values;
    View indices;
    int dim;
    bool largest;
  };
  using Backward = NoBackward;  // ScatterAdd
};

}  // namespace trinix
