#pragma once

#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/faults.h>
#include <trinix/backends/cuda/map.cuh>

/// @file
/// Looks through an index for values out of range, and counts those that do not say "ignore".

namespace trinix::cuda {

/// What indices may be, and where a violation is noted.
struct IndexRule {
  std::int64_t size;         ///< indices in [0, size) are good
  bool may_ignore = false;   ///< whether `ignored` is good too, though it does not count
  std::int64_t ignored = 0;  ///< wherever it lies
  std::int32_t site = 0;     ///< faults.h
};

/// Whether 0 <= index < size, in one comparison: negative numbers are huge when unsigned.
__device__ inline bool inside(std::int64_t index, std::int64_t size) {
  return static_cast<std::uint64_t>(index) < static_cast<std::uint64_t>(size);
}

struct IndexFindings {
  unsigned long long bad_from_end = 0;  ///< n - position of the first bad index, 0 for none
  unsigned long long count = 0;         ///< of good ones that are not ignored
};

struct MergeFindings {
  __device__ IndexFindings operator()(const IndexFindings& a, const IndexFindings& b) const {
    return {a.bad_from_end > b.bad_from_end ? a.bad_from_end : b.bad_from_end, a.count + b.count};
  }
};

inline constexpr int kCheckThreads = 256;
inline constexpr int kCheckPerThread = 8;

/// `count` may be null. The first bad index is noted, whichever block finds it: the last block to finish knows all.
/// Floor: the index is read once.
template <class Index, class C>
__global__ void __launch_bounds__(kCheckThreads)
    check_index_kernel(DeviceWalk<1> walk, const Index* index, std::int64_t n, IndexRule rule, C* count,
                       FaultMemory memory) {
  __shared__ IndexFindings shared[kCheckThreads / kWarp];
  IndexFindings found;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kCheckThreads;
#pragma unroll 4
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kCheckThreads + threadIdx.x; i < n; i += step) {
    std::int64_t at[1];
    walk.offsets(i, at);
    const std::int64_t value = index[at[0]];
    const bool ignored = rule.may_ignore && value == rule.ignored;
    const bool good = inside(value, rule.size) && !ignored;
    const bool bad = !good && !ignored;
    found = MergeFindings()(found, {bad ? static_cast<unsigned long long>(n - i) : 0ULL, good ? 1ULL : 0ULL});
  }
  found = block_combine<kCheckThreads>(found, MergeFindings(), shared);
  if (threadIdx.x != 0) return;
  if (gridDim.x > 1) {
    atomicMax(&memory.scratch->bad_from_end, found.bad_from_end);
    atomicAdd(&memory.scratch->count, found.count);
    __threadfence();
    if (atomicAdd(&memory.scratch->blocks_done, 1U) + 1 < gridDim.x) return;
    found.bad_from_end = atomicExch(&memory.scratch->bad_from_end, 0ULL);
    found.count = atomicExch(&memory.scratch->count, 0ULL);
    memory.scratch->blocks_done = 0;
  }
  if (count != nullptr) *count = static_cast<C>(found.count);
  if (found.bad_from_end == 0) return;
  volatile Fault* const fault = memory.fault;
  if (fault->site != 0) return;  // the first fault is the one to tell
  const std::int64_t position = n - static_cast<std::int64_t>(found.bad_from_end);
  std::int64_t at[1];
  walk.offsets(position, at);
  fault->index = index[at[0]];
  fault->position = position;
  fault->size = rule.size;
  fault->ignored = rule.ignored;
  __threadfence_system();
  fault->site = rule.site;
}

/// Queues the check; `count` receives the number of indices that are good and not ignored, unless it is null.
template <class Index, class C>
void check_indices(const char* op, const View& view, const IndexRule& rule, C* count, const Stream& stream) {
  const std::int64_t n = view.numel();
  const auto walk = n == 0 ? Walk<1>{} : make_walk<1>({&view});
  if (walk.rank > 1 && n >= (std::int64_t{1} << 32)) {
    trinix::detail::fail<ShapeError>(op, "{} indices in more than one piece are too many; make the index contiguous",
                                     n);
  }
  const std::int64_t blocks = std::clamp<std::int64_t>(ceil_div(n, kCheckThreads * kCheckPerThread), 1, 264);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kCheckThreads)};
  launch(op, check_index_kernel<Index, C>, shape, stream, internal::to_device(walk, 1), view.as<Index>(), n, rule,
         count, fault_memory(stream.device.index));
}

}  // namespace trinix::cuda
