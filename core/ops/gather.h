#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Gather and ScatterAdd: single elements picked and placed along one dim.

namespace trinix {

/// out[i][j][k] = x[index[i][j][k]][j][k] for dim 0, and so on. out and index have one shape, which in the other dims
/// is at most x's; index is i64 or i32 and already checked; out and x have one dtype; any strides.
struct Gather {
  static constexpr const char* kName = "gather";
  static constexpr bool kHasReference = false;
  struct Forward {
    View x;
    View index;
    View out;
    int dim;
  };
  using Backward = NoBackward;  // ScatterAdd
};

/// out[index[i][j][k]][j][k] += source[i][j][k] for dim 0, and so on; shapes as in Gather, with source in the place of
/// its out. Elements for one place are added in the order of their position along `dim`: deterministic for any number
/// of threads. 16-bit types accumulate in f32 and are rounded once.
struct ScatterAdd {
  static constexpr const char* kName = "scatter_add";
  static constexpr bool kHasReference = false;
  struct Forward {
    View source;
    View index;
    View out;
    int dim;
  };
  using Backward = NoBackward;  // Gather
};

}  // namespace trinix
