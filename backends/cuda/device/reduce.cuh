#pragma once

#include <cstdint>

/// @file
/// Combining one value per thread over a warp or a block, in a fixed order.

namespace trinix::cuda {

inline constexpr int kWarp = 32;

/// Any trivially copyable state from the lane `mask` away.
template <class S>
__device__ S shuffle_xor(const S& state, int mask) {
  static_assert(sizeof(S) % 4 == 0);
  S other;
  const auto* from = reinterpret_cast<const std::uint32_t*>(&state);
  auto* to = reinterpret_cast<std::uint32_t*>(&other);
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(S) / 4); ++i) to[i] = __shfl_xor_sync(0xffffffffU, from[i], mask);
  return other;
}

/// All lanes receive the combination of all 32.
template <class S, class Merge>
__device__ S warp_combine(S state, Merge merge) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) state = merge(state, shuffle_xor(state, mask));
  return state;
}

/// All threads receive the combination of the whole block; `shared` holds kThreads / 32 states. Ends with a barrier, so
/// that `shared` may be used again.
template <int kThreads, class S, class Merge>
__device__ S block_combine(S state, Merge merge, S* shared) {
  constexpr int kWarps = kThreads / kWarp;
  state = warp_combine(state, merge);
  if constexpr (kWarps == 1) return state;
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = state;
  __syncthreads();
  state = shared[0];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) state = merge(state, shared[w]);
  __syncthreads();
  return state;
}

struct Plus {
  template <class S>
  __device__ S operator()(S a, S b) const {
    return a + b;
  }
};

struct Larger {
  template <class S>
  __device__ S operator()(S a, S b) const {
    return a > b || a != a ? a : b;
  }
};

}  // namespace trinix::cuda
