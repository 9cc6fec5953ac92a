#pragma once

#include <trinix/backends/cuda/device/mma.cuh>

/// @file
/// The online softmax of a warp's 16 rows, of which its accumulators hold a tile of scores.

namespace trinix::cuda {

/// Maximum (of raw scores; in general, of exponents of two) and sum of the two rows of a lane, g and g + 8.
struct FlashRowState {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};     // of this lane's columns only
  float factor[2] = {1, 1};  // by which the output has still to be multiplied
  bool outgrown = false;     // the same for a warp: whether some factor is not 1
};

/// Replaces scores by exp(score - state.max). The maximum follows only when one of the warp's rows has outgrown it by
/// more than 2^kSlack: it cancels out of the result.
template <int kN>
__device__ inline void flash_softmax(float (&s)[1][kN][4], FlashRowState& state, float scale_log2) {
  constexpr float kSlack = 8;
  float largest[2];
  bool outgrown = false;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float x[4] = {state.max[half], -INFINITY, -INFINITY, -INFINITY};
#pragma unroll
    for (int n = 0; n < kN; ++n) x[n % 4] = fmaxf(x[n % 4], fmaxf(s[0][n][2 * half], s[0][n][2 * half + 1]));
    float y = fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3]));
    y = fmaxf(y, __shfl_xor_sync(0xffffffffU, y, 1));
    y = fmaxf(y, __shfl_xor_sync(0xffffffffU, y, 2));
    largest[half] = y;
    outgrown = outgrown || (y - state.max[half]) * scale_log2 > kSlack;
  }
  state.outgrown = __any_sync(0xffffffffU, outgrown) != 0;
  if (state.outgrown) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      // A row that has seen nothing yet has nothing to rescale; -inf minus -inf must not get there.
      const float y = largest[half];
      state.factor[half] = y == -INFINITY ? 1.0F : fast_exp2((state.max[half] - y) * scale_log2);
      state.max[half] = y;
      state.sum[half] *= state.factor[half];
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float shift = state.max[half] == -INFINITY ? 0.0F : state.max[half] * scale_log2;
    float sum[2] = {0, 0};
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; ++e) s[0][n][e] = fast_exp2(fmaf(s[0][n][e], scale_log2, -shift));
      sum[n % 2] += s[0][n][2 * half] + s[0][n][2 * half + 1];
    }
    state.sum[half] += sum[0] + sum[1];
  }
}

}  // namespace trinix::cuda
