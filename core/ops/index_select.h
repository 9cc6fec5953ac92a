#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// IndexSelect and IndexAdd: whole slices picked and placed by an index with one dim.

namespace trinix {

/// out[.., i, ..] = x[.., index[i], ..] with i in dim `dim`. `index` (m) is i64 or i32 and already checked; out has
/// size m in `dim` and x's sizes elsewhere; one dtype, any strides.
struct IndexSelect {
  static constexpr const char* kName = "index_select";
  static constexpr bool kHasReference = false;
  struct Forward {
    View x;
    View index;
    View out;
    int dim;
  };
  using Backward = NoBackward;  // IndexAdd
};

/// out[.., index[i], ..] += source[.., i, ..]. Shapes as in IndexSelect, with source in the place of its out. The
/// slices that go to one place are summed in the order of i, in f32 or wider, and the sum is added to out once:
/// deterministic for any number of threads, and a token that occurs a thousand times loses nothing in 16 bits.
struct IndexAdd {
  static constexpr const char* kName = "index_add";
  static constexpr bool kHasReference = false;
  struct Forward {
    View source;
    View index;
    View out;
    int dim;
  };
  using Backward = NoBackward;  // IndexSelect
};

}  // namespace trinix
