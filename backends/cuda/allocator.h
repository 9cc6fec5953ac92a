#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include <trinix/core/backend.h>

/// @file
/// The caching allocator of one CUDA device. cudaMalloc and cudaFree wait for the device, so memory is taken from the
/// driver in large segments, cut to size, joined again when neighbours are free, and kept. All work of a device is
/// queued on one stream, therefore a block may be handed out again as soon as it is released: whoever uses it next is
/// queued behind its last use.

namespace trinix::cuda {

class CachingAllocator {
 public:
  explicit CachingAllocator(int device) : device_(device) {}

  /// 512-byte aligned. @throws OutOfMemory after returning all cached segments to the driver and trying again.
  void* allocate(std::size_t bytes) { return allocate(bytes, pool_of_this_thread()); }
  /// The same from the shared pool, whatever this thread captures.
  void* allocate_apart(std::size_t bytes) { return allocate(bytes, 0); }
  void release(void* data) noexcept;

  [[nodiscard]] MemoryStats stats() const;
  void reset_peak();
  /// Returns segments without any live block to the driver.
  void empty_cache();

  /// Until end_private_pool(), requests of this thread are served from a pool of their own, whose blocks go back to it
  /// alone: a captured graph replays with the addresses that it saw. For the same reason blocks of other pools that
  /// this thread releases meanwhile stay taken until the pool is dropped. Returns the pool's id.
  int begin_private_pool();
  void end_private_pool();
  /// Hands the pool's memory to the shared pool; its graph must have run for the last time.
  void drop_private_pool(int id) noexcept;

 private:
  struct Block {
    char* data = nullptr;
    std::size_t size = 0;
    int pool = 0;        // 0: shared
    bool small = false;  // cut from a segment for small requests
    bool live = false;
    bool resting = false;       // released, and kept whole for the next request of its size
    Block* previous = nullptr;  // neighbours within the segment
    Block* next = nullptr;
  };
  struct BySize {
    bool operator()(const Block* a, const Block* b) const {
      return a->size != b->size ? a->size < b->size : a->data < b->data;
    }
  };
  using FreeList = std::set<Block*, BySize>;

  void* allocate(std::size_t bytes, int pool);
  int pool_of_this_thread() const;
  void make_free(Block* block);
  void hand_out(Block* block);
  std::vector<Block*>* resting_place(const Block& block);
  void wake_resting();
  FreeList& free_list(int pool, bool small) { return free_[{pool, small}]; }
  Block* take_free(int pool, bool small, std::size_t size);
  Block* new_segment(int pool, bool small, std::size_t size);
  void split(Block* block, std::size_t size);
  Block* join(Block* left, Block* right);
  void free_segments(int pool);

  int device_;
  mutable std::mutex mutex_;
  std::map<std::pair<int, bool>, FreeList> free_;
  std::unordered_map<void*, Block*> live_;  // resting ones included
  // Small tensors come and go at every op: blocks of the shared pool up to kLargestResting bytes skip the search, the
  // cutting and the joining. By size in units of the alignment.
  std::array<std::vector<Block*>, 65> resting_;
  MemoryStats stats_;
  int next_pool_ = 1;
  std::atomic<int> capture_pool_ = 0;  // 0: nothing is captured
  std::thread::id capture_thread_;
  std::map<int, std::vector<Block*>> held_;  // blocks of other pools that captured work uses
};

}  // namespace trinix::cuda
