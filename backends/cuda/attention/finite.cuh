#pragma once

#include <trinix/backends/cuda/attention/tiles.cuh>

/// @file
/// Numbers that are not finite, in queries, keys and values that somebody must not see.
///
/// A hidden pair has probability 0, but 0 times NaN is NaN: in out = P V, in dS, in dQ = dS K and in dK = dS^T Q. So
/// where such numbers turn up, their tile in shared memory is made finite, and NaN takes another way, by which it
/// reaches only those who see the row: through the scores for a value, through dP for a key, through lse for a query.
/// What is paid for it otherwise is the looking.

namespace trinix::cuda {

/// NaN where one of the numbers was not finite, else 0: 0 x + 0 x + ...
template <class T>
class FiniteCheck {
 public:
  __device__ void add(const Vector<T, 8>& v) {
    const auto* pairs = reinterpret_cast<const Pair*>(&v);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum_ = __hfma2(pairs[i], zero(), sum_);
  }
  [[nodiscard]] __device__ bool failed() const {
    const auto [low, high] = floats();
    return low != low || high != high;
  }

 private:
  using Pair = std::conditional_t<std::is_same_v<T, bfloat16>, __nv_bfloat162, __half2>;

  __device__ static Pair zero() {
    if constexpr (std::is_same_v<T, bfloat16>) {
      return __float2bfloat162_rn(0.0F);
    } else {
      return __float2half2_rn(0.0F);
    }
  }
  [[nodiscard]] __device__ float2 floats() const {
    if constexpr (std::is_same_v<T, bfloat16>) {
      return __bfloat1622float2(sum_);
    } else {
      return __half22float2(sum_);
    }
  }

  Pair sum_ = zero();
};

/// Whether a tile holds a number that is not finite, for this thread's part of it.
template <class T, class Tile, int kRows, int kThreads, int kFirstThread = 0>
__device__ inline bool holds_not_finite(const char* tile) {
  FiniteCheck<T> check;
  for (int i = static_cast<int>(threadIdx.x) - kFirstThread; i < kRows * Tile::kChunks; i += kThreads) {
    check.add(*reinterpret_cast<const Vector<T, 8>*>(tile + i * 16));
  }
  return check.failed();
}

/// Makes a tile finite; row r of `noted`, if given, begins with NaN where row r of the tile had to change. Threads
/// kFirstThread to kFirstThread + kThreads - 1 take part, and wait for one another afterwards.
template <class T, class Tile, int kRows, int kThreads, int kFirstThread = 0>
__device__ inline void make_finite(char* tile, char* noted) {
  constexpr std::uint16_t kExponent = std::is_same_v<T, bfloat16> ? 0x7f80 : 0x7c00;
#pragma unroll 1
  for (int i = static_cast<int>(kept_apart(threadIdx.x)) - kFirstThread; i < kRows * Tile::kChunks; i += kThreads) {
    const int row = i / Tile::kChunks;
    auto* const at = reinterpret_cast<Vector<T, 8>*>(tile + Tile::offset(row, i % Tile::kChunks));
    Vector<T, 8> values = *at;
    bool changed = false;
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      if ((values.at[e].bits & kExponent) != kExponent) continue;
      values.at[e] = T::from_bits(0);
      changed = true;
    }
    if (!changed) continue;
    *at = values;
    if (noted != nullptr) *reinterpret_cast<T*>(noted + Tile::offset(row, 0)) = T::from_bits(0x7fff);  // NaN in both
  }
}

/// Whether one of a thread's sums is not finite.
template <int kM, int kO>
__device__ inline bool any_not_finite(const float (&sums)[kM][kO][4]) {
  float check = 0;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kO; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) check = fmaf(sums[m][n][e], 0.0F, check);
    }
  }
  return check != check;
}

}  // namespace trinix::cuda
