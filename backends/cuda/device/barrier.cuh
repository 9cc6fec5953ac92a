#pragma once

#include <cstdint>

#include <trinix/backends/cuda/device/mma.cuh>

/// @file
/// Barriers in shared memory that also count bytes (mbarrier), from sm_90 on, and named barriers (PTX ISA, "mbarrier",
/// "bar"). An mbarrier is in a phase, even or odd; the phase ends when as many threads have arrived as it was made for
/// and all bytes that were announced have come. Whoever waits names the phase by its parity: a ring of buffers starts
/// with readers waiting for the end of parity 0 and the writer for that of parity 1, which counts as over from the
/// start.

namespace trinix::cuda {

/// An mbarrier, by its address in the shared window; it takes 8 bytes.
using Barrier = std::uint32_t;
inline constexpr int kBarrierBytes = 8;

__device__ inline void init_barrier(Barrier barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
/// Makes the barriers that this thread has made known to the copy engine; a barrier of the block must follow.
__device__ inline void fence_barrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void arrive(Barrier barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives, and announces bytes that the copy engine will write.
__device__ inline void arrive_expecting(Barrier barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
/// Waits for the end of the phase of this parity.
__device__ inline void await(Barrier barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

/// Makes what this thread wrote to shared memory visible to the copy engine and to wgmma; a barrier must follow.
__device__ inline void fence_shared_for_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Named barrier 1 to 15 of a block: waits for kThreads threads, arrivals included. 0 is __syncthreads().
template <int kThreads>
__device__ inline void sync_named(int name) {
  asm volatile("bar.sync %0, %1;" ::"r"(name), "n"(kThreads) : "memory");
}
template <int kThreads>
__device__ inline void arrive_named(int name) {
  asm volatile("bar.arrive %0, %1;" ::"r"(name), "n"(kThreads) : "memory");
}

/// Counts the fills of a ring of kStages buffers (a power of two): where the next one lies, and the parity of its
/// phase.
template <int kStages>
class RingPlace {
 public:
  __device__ explicit RingPlace(unsigned count = 0) : count_(count) {}

  /// @param back so many fills before the next one
  [[nodiscard]] __device__ int slot(unsigned back = 0) const { return static_cast<int>((count_ - back) % kStages); }
  [[nodiscard]] __device__ unsigned parity(unsigned back = 0) const { return (count_ - back) / kStages % 2; }
  __device__ void advance() { ++count_; }

 private:
  static_assert((kStages & (kStages - 1)) == 0);
  unsigned count_;
};

}  // namespace trinix::cuda
