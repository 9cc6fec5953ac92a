#pragma once

#include <trinix/backends/cuda/attention/flash/balance.h>
#include <trinix/backends/cuda/attention/tiles.cuh>

/// @file
/// Which tiles a block that stays takes, one after the other.

namespace trinix::cuda {

/// The item of a BlockOrder that this block takes in a round of as many items as there are blocks.
__device__ inline int item_of_round(int round) {
  const int blocks = static_cast<int>(gridDim.x);
  return round * blocks + snake_place(round, static_cast<int>(blockIdx.x), blocks);
}

/// Whether tiles differ in length, and evenly: causal, or limited to the right in another way, and not to the left.
[[nodiscard]] inline bool falls_evenly(const AttentionProblem& p) {
  return p.query_starts == nullptr && p.reach_right < p.keys && p.reach_left >= p.keys;
}

/// The tiles of all heads, such that as many blocks as stay end together.
/// @param bytes of the operands that one head reads again and again; @param longest, shortest time of the first and the
///   last tile, where they differ
[[nodiscard]] inline BlockOrder balanced_order(const AttentionProblem& p, int tiles, int heads, std::int64_t bytes,
                                               int blocks, int longest, int shortest) {
  BlockOrder order = block_order(tiles, heads, bytes);
  if (falls_evenly(p)) order.section = balanced_section({tiles, heads, order.section, blocks, longest, shortest});
  return order;
}

}  // namespace trinix::cuda
