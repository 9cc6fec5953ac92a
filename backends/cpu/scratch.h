#pragma once

#include <cstdint>
#include <memory>

#include <trinix/backends/cpu/parallel.h>

/// @file
/// Work that needs a buffer per thread.

namespace trinix::cpu {

/// Like parallel_for, but calls f(begin, end, scratch) with `size` uninitialised elements of S for the thread alone.
/// The memory is taken before any thread starts, because a team must not throw.
template <class S, class F>
void parallel_for_with_scratch(std::int64_t n, std::int64_t grain, std::int64_t size, F&& f) {
  const int threads = threads_for(n, std::max<std::int64_t>(grain, 1));
  const auto scratch = std::make_unique_for_overwrite<S[]>(static_cast<std::size_t>(threads * size));
  team(threads, [&](int t, int count) {
    const std::int64_t begin = n * t / count;
    const std::int64_t end = n * (t + 1) / count;
    if (begin < end) f(begin, end, scratch.get() + t * size);
  });
}

}  // namespace trinix::cpu
