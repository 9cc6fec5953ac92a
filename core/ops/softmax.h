#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Softmax and log-softmax along one dim.

namespace trinix {

/// y = exp(x - max) / sum, or its logarithm, along `dim`. Statistics in f32 or wider. A row of only -inf gives zeros
/// (log form: -inf), never NaN. x and y share shape and dtype, any strides.
/// Backward, from y alone: softmax dx = y (dy - sum(dy y)); log-softmax dx = dy - exp(y) sum(dy).
struct Softmax {
  static constexpr const char* kName = "softmax";
  static constexpr bool kHasReference = true;
  struct Forward {
    View x;
    View y;
    int dim;
    bool log;
  };
  struct Backward {
    View y;
    View dy;
    View dx;
    int dim;
    bool log;
  };
};

}  // namespace trinix
