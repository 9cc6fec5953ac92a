#pragma once

#include <trinix/core/generator.h>
#include <trinix/core/kernel.h>
#include <trinix/core/philox.h>
#include <trinix/core/view.h>

/// @file
/// Dropout (Srivastava et al., JMLR 15, 2014), and the rule for what is kept, which attention shares.

namespace trinix {

/// The rule: element i has the 32 bits of lane i % 4 of philox(seed, offset + i / 4), as an unsigned number, and is
/// kept when they are at least dropout_threshold(p). The share of dropped values is then threshold / 2^32, within 2^-33
/// of p.
[[nodiscard]] inline std::uint32_t dropout_threshold(double p) {
  const double scaled = p * 0x1p32 + 0.5;
  return scaled >= 0x1p32 ? 0xffffffffU : static_cast<std::uint32_t>(scaled);
}

TRINIX_HOST_DEVICE inline bool dropout_keeps(std::uint32_t bits, std::uint32_t threshold) { return bits >= threshold; }

/// Factor for the values kept, so that the expectation stays: 1 / (1 - p), and 0 for p = 1.
[[nodiscard]] inline double dropout_scale(double p) { return p < 1 ? 1 / (1 - p) : 0; }

/// y = keep ? x / (1 - p) : 0, with i counted in row-major order whatever the strides; floating point, 0 < p < 1.
/// dx = keep ? dy / (1 - p) : 0 for the same state: the mask is drawn again and never stored. `accumulate` adds to dx.
struct Dropout {
  static constexpr const char* kName = "dropout";
  static constexpr bool kHasReference = false;
  struct Forward {
    View x;
    View y;
    double p;
    RandomState state;
  };
  struct Backward {
    View dy;
    View dx;
    double p;
    RandomState state;
    bool accumulate = false;
  };
};

}  // namespace trinix
