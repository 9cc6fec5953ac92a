#pragma once

#include <span>

#include <trinix/core/kernel.h>
#include <trinix/core/ops/flat.h>

/// @file
/// Exponential moving averages of a list of tensors in one launch.

namespace trinix {

/// One tensor and its average, which is in the compute_type() of the tensor.
struct MovingAverageItem {
  Flat value;
  Flat average;

  friend bool operator==(const MovingAverageItem&, const MovingAverageItem&) = default;
};

/// average += weight (value - average), in the dtype of the average.
struct MovingAverage {
  static constexpr const char* kName = "moving_average";
  static constexpr bool kHasReference = false;
  struct Forward {
    std::span<const MovingAverageItem> items;
    double weight = 0;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
