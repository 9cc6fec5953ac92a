#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Matmul: out = a b, batched, with an optional bias.

namespace trinix {

/// a (..., M, K), b (..., K, N), out (..., M, N) with equal batch dims (broadcast ones carry stride 0) and any strides;
/// all of one floating-point dtype. `bias` (N), optional, of out's dtype, is added to every row. With `accumulate` the
/// product is added to out (used to add into gradients without a temporary). Products accumulate in f32 or wider.
/// `row_sums` (M), optional, of out's dtype, receives the sums of the rows of a, for operands of two dims: with a =
/// dy^T, out and row_sums are the gradients of a linear layer's weight and bias. The gradients are matmuls themselves.
struct Matmul {
  static constexpr const char* kName = "matmul";
  static constexpr bool kHasReference = false;
  struct Forward {
    View a;
    View b;
    View out;
    View bias;
    bool accumulate = false;
    View row_sums = {};
    bool accumulate_row_sums = false;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
