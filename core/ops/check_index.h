#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// CheckIndex: refuses indices outside [0, size).

namespace trinix {

/// `index` is i64 or i32, any shape and strides. @throws IndexError "[op] index 50300 at position 17 is out of range
/// for 50257 rows", where op, size and what are the arguments and the position counts in row-major order from 0; the
/// first bad index is named.
///
/// The CPU throws before anything is done with the index. A device whose work is queued does not wait for it: CUDA
/// throws the same error, with a clause that says so, at the first synchronisation since (synchronize(), item(), a copy
/// to the host), names the first bad index of the first call that had one, and goes on working. Every op that takes
/// indices is therefore safe by itself there: it reads zeros where an index is out of range, and adds nothing.
struct CheckIndex {
  static constexpr const char* kName = "check_index";
  static constexpr bool kHasReference = false;
  struct Forward {
    const char* op;
    View index;
    std::int64_t size;
    const char* what;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
