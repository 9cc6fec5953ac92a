#pragma once

#include <trinix/core/generator.h>
#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Random: fills a view with random numbers.

namespace trinix {

/// Element i, counted in row-major order whatever the strides, is a pure function of (state, i): it is drawn from lane
/// i % 4 of philox(seed, offset + i / 4). Values are therefore equal on every device and for any number of threads.
/// core/random_math.h holds the formulas.
enum class RandomFn : std::uint8_t {
  uniform,  ///< floating point: low + (high - low) u, u in [0, 1) with 24 bits (f16: 11, bf16: 8)
  normal,   ///< floating point: mean + stddev z; elements 2k and 2k + 1 are one Box-Muller pair
  integer,  ///< integers: integer_low + an integer in [0, range), from lane i % 4 of random_words64(state, i / 4)
};

/// Floating-point values are drawn in f32 for every dtype and converted, so a tensor of another dtype holds the same
/// values up to rounding (f64 scales by low, high, mean and stddev in f64). A uniform value that rounding carries up to
/// `high` becomes `low`, which keeps the interval half open.
struct Random {
  static constexpr const char* kName = "random";
  static constexpr bool kHasReference = false;
  struct Forward {
    RandomFn fn;
    View out;
    RandomState state;
    double low = 0;   ///< uniform: lower bound; normal: mean
    double high = 1;  ///< uniform: upper bound; normal: standard deviation
    std::int64_t integer_low = 0;
    std::uint64_t range = 1;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
