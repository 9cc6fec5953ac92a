#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// CheckIndex: refuses indices outside [0, size) before anything is written with them.

namespace trinix {

/// `index` is i64 or i32, any shape and strides. @throws IndexError "[op] index 50300 at position 17 is out of range
/// for 50257 rows", where op, size and what are the arguments and the position counts in row-major order from 0; the
/// first bad index is named.
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
