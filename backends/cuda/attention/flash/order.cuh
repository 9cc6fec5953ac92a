#pragma once

#include <trinix/backends/cuda/attention/tiles.cuh>

/// @file
/// Which tiles a block that stays takes, one after the other.

namespace trinix::cuda {

/// The item of a BlockOrder that this block takes in a round of as many items as there are blocks. Every second round
/// goes backwards: where items go from long to short, nobody gets the longest of each round.
__device__ inline int item_of_round(int round) {
  const int blocks = static_cast<int>(gridDim.x);
  const int block = static_cast<int>(blockIdx.x);
  return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
}

}  // namespace trinix::cuda
