#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>
#include <sys/mman.h>
#include <unistd.h>

#include <trinix/backends/cpu/allocator.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cpu {

namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

void* from_system(std::size_t bytes) {
  // Blocks of at least one huge page start on one: TLB misses otherwise cost the matrix products several percent.
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  void* data = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
#ifdef MADV_HUGEPAGE
  if (data != nullptr && bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
#endif
  return data;
}

std::int64_t free_system_memory() {
  return static_cast<std::int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

}  // namespace

std::size_t block_size(std::size_t bytes) {
  if (bytes <= 1024) return std::max<std::size_t>((bytes + 63) / 64 * 64, 64);
  const std::size_t step = std::bit_floor(bytes - 1) / 8;
  return (bytes + step - 1) / step * step;
}

CachingAllocator::~CachingAllocator() { drop_cached_blocks(); }

void* CachingAllocator::allocate(std::size_t bytes) {
  // Past this no request can succeed, and the rounding below could wrap.
  constexpr std::size_t kLimit = std::numeric_limits<std::int64_t>::max() / 4;
  const std::size_t size = bytes > kLimit ? 0 : block_size(bytes);
  const std::lock_guard lock(mutex_);
  void* data = nullptr;
  if (size > 0) {
    auto& list = free_blocks_[size];
    if (!list.empty()) {
      data = list.back();
      list.pop_back();
    } else {
      data = from_system(size);
      if (data == nullptr) {
        drop_cached_blocks();
        data = from_system(size);
      }
      if (data != nullptr) {
        ++stats_.system_allocations;
        stats_.reserved += static_cast<std::int64_t>(size);
        stats_.peak_reserved = std::max(stats_.peak_reserved, stats_.reserved);
      }
    }
  }
  if (data == nullptr) {
    trinix::detail::fail<OutOfMemory>("allocate",
                                      "{} bytes were asked for on cpu; about {} bytes are free, {} are in use "
                                      "by tensors and {} were at the peak; use a smaller batch",
                                      bytes, free_system_memory(), stats_.allocated, stats_.peak_allocated);
  }
  ++stats_.allocations;
  stats_.allocated += static_cast<std::int64_t>(size);
  stats_.peak_allocated = std::max(stats_.peak_allocated, stats_.allocated);
  return data;
}

void CachingAllocator::release(void* data, std::size_t bytes) noexcept {
  if (data == nullptr) return;
  const std::size_t size = block_size(bytes);
  const std::lock_guard lock(mutex_);
  stats_.allocated -= static_cast<std::int64_t>(size);
  free_blocks_[size].push_back(data);
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
  const std::lock_guard lock(mutex_);
  drop_cached_blocks();
}

void CachingAllocator::drop_cached_blocks() {
  for (auto& [size, blocks] : free_blocks_) {
    for (void* block : blocks) std::free(block);
    stats_.reserved -= static_cast<std::int64_t>(size * blocks.size());
    blocks.clear();
  }
}

}  // namespace trinix::cpu
