#pragma once

#include <cstddef>
#include <mutex>
#include <unordered_map>
#include <vector>

#include <trinix/core/backend.h>

/// @file
/// The CPU's caching allocator. A training step asks for the same sizes again and again; handing back pages that are
/// already mapped and warm saves the page faults, which cost more than the work on small tensors.

namespace trinix::cpu {

class CachingAllocator {
 public:
  ~CachingAllocator();

  /// 64-byte aligned. @throws OutOfMemory after returning all cached blocks to the system and trying again.
  void* allocate(std::size_t bytes);
  void release(void* data, std::size_t bytes) noexcept;

  [[nodiscard]] MemoryStats stats() const;
  void reset_peak();
  void empty_cache();

 private:
  void drop_cached_blocks();  // call with mutex_ held

  mutable std::mutex mutex_;
  std::unordered_map<std::size_t, std::vector<void*>> free_blocks_;  // by block size
  MemoryStats stats_;
};

/// The size of the block that serves a request: multiples of 64 up to 1 KB, then eight classes per power of two, so at
/// most an eighth is wasted.
[[nodiscard]] std::size_t block_size(std::size_t bytes);

}  // namespace trinix::cpu
