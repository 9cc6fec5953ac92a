#pragma once

#include <trinix/backends/cuda/attention/tiles.cuh>
#include <trinix/backends/cuda/device/wgmma.cuh>

/// @file
/// From a warp's accumulators to rows in global memory, by way of panels of 64 columns in shared memory.

namespace trinix::cuda {

/// Rounds and stores a warp's 16 rows of 8 kN columns, scaled by `factors` (one per row of a lane).
/// @param panels of the block, kPanelBytes each, whose rows [warp_row, warp_row + 16) nobody else uses
/// @param to row 0 and column 0 of what is stored, of which `rows` and `depth` exist
template <class T, int kPanelBytes, int kN>
__device__ inline void store_by_panels(char* panels, int warp_row, const float (&acc)[kN][4], const float (&factors)[2],
                                       T* to, const HeadsView& view, int rows, int depth) {
  using Panel = SharedTile<64>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      *reinterpret_cast<std::uint32_t*>(panels + n / 8 * kPanelBytes +
                                        Panel::offset(warp_row + half * 8 + lane / 4, n % 8) + lane % 4 * 4) =
          pack_pair<T>(acc[n][2 * half] * factors[half], acc[n][2 * half + 1] * factors[half]);
    }
  }
  __syncwarp();
#pragma unroll
  for (int panel = 0; panel < (kN + 7) / 8; ++panel) {
    store_rows<T, Panel, 16>(panels + panel * kPanelBytes, warp_row, to + panel * 64 * view.element, view, rows,
                             min(depth, 8 * kN) - panel * 64);
  }
}

}  // namespace trinix::cuda
