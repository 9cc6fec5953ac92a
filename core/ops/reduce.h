#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Reduce: one value per group of elements. ArgReduce: the place of the largest or smallest. Variance.

namespace trinix {

enum class ReduceFn : std::uint8_t {
  sum,          ///< 0 over nothing; integers and booleans sum in i64
  mean,         ///< floating point only
  prod,         ///< 1 over nothing; integers and booleans in i64
  max,          ///< NaN if any element is NaN; not defined over nothing
  min,          ///< as max
  any,          ///< boolean result
  all,          ///< boolean result
  sum_squares,  ///< sum of x^2; floating point only
  sum_abs,      ///< sum of |x|; floating point only
  logsumexp,    ///< log(sum(exp(x))), stable; -inf over nothing; floating point only
};

/// `out` has the rank of `x`, with size 1 in every reduced dim and equal sizes in the others.
/// Accumulates in f32 or wider, whatever the storage. dtype of out: as in ReduceFn, otherwise that of x or, for 16-bit
/// storage, f32.
struct Reduce {
  static constexpr const char* kName = "reduce";
  static constexpr bool kHasReference = false;
  struct Forward {
    ReduceFn fn;
    View x;
    View out;
    bool accumulate = false;  ///< out += result (sum only; used to add into gradients)
  };
  using Backward = NoBackward;  // the gradients are elementwise ops
};

/// Index (i64) of the first largest (or smallest) element along one dim; a NaN counts as both. `out` has size 1 there.
struct ArgReduce {
  static constexpr const char* kName = "arg_reduce";
  static constexpr bool kHasReference = false;
  struct Forward {
    bool largest;
    View x;
    View out;
    int dim;
  };
  using Backward = NoBackward;
};

/// out = sum((x - mean)^2) / (count - correction) by the two-pass formula; shapes as in Reduce.
struct Variance {
  static constexpr const char* kName = "variance";
  static constexpr bool kHasReference = false;
  struct Forward {
    View x;
    View mean;  ///< written too, row-major; shape and dtype of out, which may be f32 for 16-bit storage
    View out;
    double correction;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
