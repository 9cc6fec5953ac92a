#pragma once

#include <cstdint>

/// @file
/// Copies from global to shared memory that pass by the registers (cp.async). A thread waits for its own copies only.

namespace trinix::cuda {

/// Starts copying one V of 4, 8 or 16 bytes, aligned to its size.
template <class V>
__device__ void copy_async(V* to_shared, const V* from) {
  const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(to_shared));
  if constexpr (sizeof(V) == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
  } else {
    static_assert(sizeof(V) == 4 || sizeof(V) == 8);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(sizeof(V)) : "memory");
  }
}

/// Closes a group of copies started by this thread; it may be empty.
__device__ inline void commit_async() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most kPending of this thread's groups are under way.
template <int kPending>
__device__ void wait_async() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace trinix::cuda
