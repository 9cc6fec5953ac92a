#include <algorithm>
#include <cuda_runtime_api.h>

#include <trinix/backends/cuda/allocator.h>
#include <trinix/backends/cuda/check.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cuda {

namespace {

constexpr std::size_t kAlignment = 512;
constexpr std::size_t kSmallRequest = std::size_t{1} << 20;  // up to here served from small segments
constexpr std::size_t kSmallSegment = std::size_t{2} << 20;
constexpr std::size_t kLargeSegment = std::size_t{20} << 20;  // shared by requests of less than half of it
constexpr std::size_t kSegmentStep = std::size_t{2} << 20;
constexpr std::size_t kLargestResting = 64 * kAlignment;
constexpr std::size_t kMostResting = 64;  // of one size

std::size_t round_up(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

std::size_t segment_size(bool small, std::size_t size) {
  if (small) return kSmallSegment;
  return size < kLargeSegment / 2 ? kLargeSegment : round_up(size, kSegmentStep);
}

/// While a step is captured the driver gives and takes memory only in this mode.
class AllowDuringCapture {
 public:
  AllowDuringCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~AllowDuringCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  AllowDuringCapture(const AllowDuringCapture&) = delete;
  AllowDuringCapture& operator=(const AllowDuringCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace

int CachingAllocator::pool_of_this_thread() const {
  const int pool = capture_pool_.load(std::memory_order_acquire);
  return pool != 0 && capture_thread_ == std::this_thread::get_id() ? pool : 0;
}

void* CachingAllocator::allocate(std::size_t bytes, int pool) {
  const std::size_t size = round_up(std::max<std::size_t>(bytes, 1), kAlignment);
  const bool small = size <= kSmallRequest;
  const std::lock_guard lock(mutex_);
  if (pool == 0 && size >= bytes && size <= kLargestResting && !resting_[size / kAlignment].empty()) {
    Block* rested = resting_[size / kAlignment].back();
    resting_[size / kAlignment].pop_back();
    rested->resting = false;
    hand_out(rested);
    return rested->data;
  }
  Block* block = size < bytes ? nullptr : take_free(pool, small, size);
  if (block == nullptr && size >= bytes && pool == 0) {
    wake_resting();
    block = take_free(pool, small, size);
  }
  if (block == nullptr && size >= bytes) {
    const DeviceGuard guard(device_);
    block = new_segment(pool, small, size);
    if (block == nullptr) {
      wake_resting();
      free_segments(0);
      block = new_segment(pool, small, size);
    }
  }
  if (block == nullptr) {
    const DeviceGuard guard(device_);
    std::size_t free = 0;
    std::size_t total = 0;
    cudaMemGetInfo(&free, &total);
    trinix::detail::fail<OutOfMemory>("allocate",
                                      "{} bytes were asked for on cuda:{}; {} of {} bytes are free, {} are in "
                                      "use by tensors and {} were at the peak; use a smaller batch",
                                      bytes, device_, free, total, stats_.allocated, stats_.peak_allocated);
  }
  split(block, size);
  block->live = true;
  live_[block->data] = block;
  hand_out(block);
  return block->data;
}

void CachingAllocator::hand_out(Block* block) {
  ++stats_.allocations;
  stats_.allocated += static_cast<std::int64_t>(block->size);
  stats_.peak_allocated = std::max(stats_.peak_allocated, stats_.allocated);
}

std::vector<CachingAllocator::Block*>* CachingAllocator::resting_place(const Block& block) {
  if (block.pool != 0 || !block.small || block.size > kLargestResting) return nullptr;
  auto& place = resting_[block.size / kAlignment];
  return place.size() < kMostResting ? &place : nullptr;
}

/// Makes free blocks of those that rest.
void CachingAllocator::wake_resting() {
  for (auto& blocks : resting_) {
    for (Block* block : blocks) {
      block->resting = false;
      live_.erase(block->data);
      stats_.allocated += static_cast<std::int64_t>(block->size);  // make_free() takes it off
      make_free(block);
    }
    blocks.clear();
  }
}

void CachingAllocator::release(void* data) noexcept {
  if (data == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(data);
  if (found == live_.end() || found->second->resting) return;
  Block* block = found->second;
  if (pool_of_this_thread() == 0) {
    if (auto* place = resting_place(*block)) {
      block->resting = true;
      stats_.allocated -= static_cast<std::int64_t>(block->size);
      place->push_back(block);
      return;
    }
  }
  live_.erase(found);
  if (const int pool = pool_of_this_thread(); pool != block->pool && pool != 0) {
    held_[pool].push_back(block);
    return;
  }
  make_free(block);
}

void CachingAllocator::make_free(Block* block) {
  stats_.allocated -= static_cast<std::int64_t>(block->size);
  block->live = false;
  if (block->previous != nullptr && !block->previous->live) block = join(block->previous, block);
  if (block->next != nullptr && !block->next->live) block = join(block, block->next);
  free_list(block->pool, block->small).insert(block);
}

CachingAllocator::Block* CachingAllocator::take_free(int pool, bool small, std::size_t size) {
  FreeList& list = free_list(pool, small);
  Block wanted;
  wanted.size = size;
  const auto best = list.lower_bound(&wanted);
  if (best == list.end()) return nullptr;
  Block* block = *best;
  // A huge block cut for a modest request would be missing when its own size is asked for again.
  if (!small && block->size > kLargeSegment && block->size - size > kLargeSegment && size < block->size / 2) {
    return nullptr;
  }
  list.erase(best);
  return block;
}

CachingAllocator::Block* CachingAllocator::new_segment(int pool, bool small, std::size_t size) {
  const std::size_t bytes = segment_size(small, size);
  void* data = nullptr;
  const AllowDuringCapture allow;
  if (cudaMalloc(&data, bytes) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  ++stats_.system_allocations;
  stats_.reserved += static_cast<std::int64_t>(bytes);
  stats_.peak_reserved = std::max(stats_.peak_reserved, stats_.reserved);
  auto* block = new Block;
  block->data = static_cast<char*>(data);
  block->size = bytes;
  block->pool = pool;
  block->small = small;
  return block;
}

void CachingAllocator::split(Block* block, std::size_t size) {
  const std::size_t rest = block->size - size;
  const bool worth_it = block->small ? rest >= kAlignment : rest > kSmallRequest;
  if (!worth_it) return;
  auto* right = new Block(*block);
  right->data += size;
  right->size = rest;
  right->live = false;
  right->previous = block;
  if (right->next != nullptr) right->next->previous = right;
  block->next = right;
  block->size = size;
  free_list(right->pool, right->small).insert(right);
}

/// One of the two may be in a free list; the result is in none.
CachingAllocator::Block* CachingAllocator::join(Block* left, Block* right) {
  free_list(left->pool, left->small).erase(left);
  free_list(right->pool, right->small).erase(right);
  left->size += right->size;
  left->next = right->next;
  if (left->next != nullptr) left->next->previous = left;
  delete right;
  return left;
}

void CachingAllocator::free_segments(int pool) {
  const AllowDuringCapture allow;
  for (const bool small : {false, true}) {
    FreeList& list = free_list(pool, small);
    for (auto it = list.begin(); it != list.end();) {
      Block* block = *it;
      if (block->previous != nullptr || block->next != nullptr) {
        ++it;
        continue;
      }
      cudaFree(block->data);  // waits for the device, so no queued work still uses it
      stats_.reserved -= static_cast<std::int64_t>(block->size);
      it = list.erase(it);
      delete block;
    }
  }
}

MemoryStats CachingAllocator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak_allocated = stats_.allocated;
  stats_.peak_reserved = stats_.reserved;
}

void CachingAllocator::empty_cache() {
  const DeviceGuard guard(device_);
  const std::lock_guard lock(mutex_);
  wake_resting();
  free_segments(0);
}

int CachingAllocator::begin_private_pool() {
  const std::lock_guard lock(mutex_);
  capture_thread_ = std::this_thread::get_id();
  capture_pool_.store(next_pool_, std::memory_order_release);
  return next_pool_++;
}

void CachingAllocator::end_private_pool() { capture_pool_.store(0, std::memory_order_release); }

void CachingAllocator::drop_private_pool(int id) noexcept {
  const std::lock_guard lock(mutex_);
  const auto share = [](Block* block) {
    // A segment's blocks are all of one pool: those that are live outside this list are its neighbours.
    for (Block* b = block; b != nullptr; b = b->previous) b->pool = 0;
    for (Block* b = block; b != nullptr; b = b->next) b->pool = 0;
  };
  for (const auto& [data, block] : live_) {
    if (block->pool == id) share(block);
  }
  for (const auto& [pool, blocks] : held_) {
    for (Block* block : blocks) {
      if (block->pool == id) share(block);
    }
  }
  for (const bool small : {false, true}) {
    FreeList blocks = std::move(free_list(id, small));
    free_.erase({id, small});
    for (Block* block : blocks) {
      share(block);
      free_list(0, small).insert(block);
    }
  }
  const std::vector<Block*> held = std::move(held_[id]);
  held_.erase(id);
  for (Block* block : held) make_free(block);
}

}  // namespace trinix::cuda
