#pragma once

#include <cstdint>
#include <cuda.h>

#include <trinix/backends/cuda/device/barrier.cuh>

/// @file
/// Copies of boxes between tensors in global memory and tiles in shared memory by the copy engine (TMA), from sm_90 on
/// (PTX ISA, "cp.async.bulk.tensor", "cp.reduce.async.bulk"). One thread starts a copy; what lies outside of the tensor
/// is read as zero. Tensor maps are made by backends/cuda/tensor_map.h.

namespace trinix::cuda {

/// How long the L2 cache shall keep what a copy reads: what createpolicy.fractional makes of evict_last and evict_first
/// for all of it, which is the same on every card and takes no registers this way (values as in CUTLASS,
/// CacheHintSm90).
inline constexpr std::uint64_t kKeepInCache = 0x14F0000000000000;
inline constexpr std::uint64_t kPassThroughCache = 0x12F0000000000000;

__device__ inline void prefetch(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// Starts to copy the box at (column, row, head, batch) to `to`; its bytes count at `barrier`. The column is a multiple
/// of 8, so that a row of the box begins on 16 bytes; others end in an illegal instruction.
__device__ inline void copy_box(std::uint32_t to, const CUtensorMap& map, Barrier barrier, int column, int row,
                                int head, int batch, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(batch), "l"(policy)
      : "memory");
}

/// Starts to copy `bytes` (a multiple of 16, both ends aligned to 16) that lie in a row.
__device__ inline void copy_bytes(std::uint32_t to, const void* from, int bytes, Barrier barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}

/// Starts to add floats that lie in a row (`bytes` a multiple of 16, both ends aligned to 16) to global memory.
__device__ inline void add_floats(float* to, std::uint32_t from, int bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to), "r"(from),
               "r"(bytes)
               : "memory");
}
/// Closes the group of additions started since the last one.
__device__ inline void commit_adds() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Waits until at most kGroups of this thread's groups have still to be read from shared memory.
template <int kGroups>
__device__ inline void await_adds_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kGroups) : "memory");
}

}  // namespace trinix::cuda
