#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include <trinix/backends/cpu/gemm/simd.h>

/// @file
/// Vector operations and scratch memory of the attention kernels.

namespace trinix::cpu::internal {

using Lanes = Vec<float>;
using LaneInts = Vec<std::int32_t>;
inline constexpr int kLanes = kWidth<float>;

inline constexpr float kLog2E = 1.44269504088896341F;
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

TRINIX_INLINE Lanes select(LaneInts mask, Lanes a, Lanes b) { return mask ? a : b; }
TRINIX_INLINE Lanes maximum(Lanes a, Lanes b) { return select(a > b, a, b); }
/// 0, 1, 2, ...
TRINIX_INLINE LaneInts lane_numbers() {
  return []<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) { return LaneInts{I...}; }
  (std::make_integer_sequence<int, kLanes>{});
}
/// 0.0, 1.0, 2.0, ...
TRINIX_INLINE Lanes lane_floats() { return __builtin_convertvector(lane_numbers(), Lanes); }

/// 2^x for x < 127, 0 below -126; relative error 8e-8 (a minimax polynomial on [-1/2, 1/2]). NaN stays NaN.
TRINIX_INLINE Lanes exp2(Lanes x) {
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
  constexpr float kMagic = 12582912.0F;
  const Lanes shifted = x + kMagic;
  const Lanes r = x - (shifted - kMagic);
  Lanes p = r * 0.0001535337069F + 0.001339887735F;
  p = p * r + 0.009618436918F;
  p = p * r + 0.05550332367F;
  p = p * r + 0.2402264774F;
  p = p * r + 0.6931471825F;
  p = p * r + 1.0F;
  const LaneInts exponent = (std::bit_cast<LaneInts>(shifted) + 127) << 23;
  return select(x < -126.0F, Lanes{}, p * std::bit_cast<Lanes>(exponent));
}

/// e^(a - b), with one rounding where a and b are near each other.
TRINIX_INLINE Lanes exp_difference(Lanes a, Lanes b) { return exp2((a - b) * kLog2E); }

/// Hands out pieces of a block of memory, each on a cache line of its own.
class Arena {
 public:
  explicit Arena(void* block) : next_(static_cast<float*>(block)) {}
  [[nodiscard]] float* take(std::int64_t count) {
    float* piece = next_;
    next_ += rounded(count);
    return piece;
  }
  /// Elements that take(count) uses.
  [[nodiscard]] static constexpr std::int64_t rounded(std::int64_t count) { return (count + 15) / 16 * 16; }

 private:
  float* next_;
};

}  // namespace trinix::cpu::internal
