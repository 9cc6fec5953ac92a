#pragma once

#include <cstdint>

#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>

/// @file
/// Kernels that hold whole rows in registers, read once and written once: how many threads take a row.

namespace trinix::cuda {

/// Rows side by side in a block. Rows short enough for one warp need no barrier.
template <int kThreads>
inline constexpr int kRowGroups = kThreads == kWarp ? 8 : 1;

/// Threads and registers for a row length: (threads per row, elements per access, accesses per thread). Chosen so that
/// no instantiation spills.
template <class T, class F>
void with_row_shape(std::int64_t columns, bool aligned, F f) {
  constexpr int kWide = kPerAccess<T>;
  if (aligned && columns % kWide == 0) {
    if constexpr (kWide > 2) {
      if (columns <= 32 * kWide) return f.template operator()<32, kWide, 1>();
      if (columns <= 32 * kWide * 2) return f.template operator()<32, kWide, 2>();
      if (columns <= 32 * kWide * 3) return f.template operator()<32, kWide, 3>();
    }
    if (columns <= 32 * kWide * 4) return f.template operator()<32, kWide, 4>();
    if (columns <= 128 * kWide * 2) return f.template operator()<128, kWide, 2>();
    if (columns <= 128 * kWide * 4) return f.template operator()<128, kWide, 4>();
    if constexpr (kWide == 8) return f.template operator()<256, kWide, 4>();
    if constexpr (kWide == 4) return f.template operator()<512, kWide, 4>();
  }
  if (columns <= 256 * 4) return f.template operator()<256, 1, 4>();
  if (columns <= 512 * 8) return f.template operator()<512, 1, 8>();
  if constexpr (kWide > 2) f.template operator()<512, 1, 16>();
}

}  // namespace trinix::cuda
