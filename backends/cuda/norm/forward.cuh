#pragma once

#include <trinix/backends/cuda/device/dependent_launch.cuh>
#include <trinix/backends/cuda/norm/rows.cuh>

/// @file
/// The forward of rows that fit in registers.
///
/// Floor: 2 tensors of traffic, 4 with a branch. A row is read once, and all its loads are issued before any result is
/// waited for. Bytes in flight per multiprocessor for 16-bit types: 32 elements (64 bytes) per thread at 256 and 512
/// columns (several rows per warp) to 1024, at 1024 threads 64 KB; above, 32 to 96 bytes per thread at 1536 to 768
/// threads, 48 to 64 KB. Little's law asks for 4.3 TB/s / 132 * 0.7 us = 23 KB. Shapes between powers of two leave no
/// thread without elements at the usual widths. A forward starts in the places that the kernel in front of it leaves,
/// which saves 2 us of 50.

namespace trinix::cuda {

/// Calls f with the ShapeTag for rows of this length: enough threads to keep a row's loads short, few enough for
/// several blocks to share a multiprocessor.
template <class F>
void with_forward_shape(std::int64_t columns, F f) {
  if (columns <= 256) return f(ShapeTag<32, 8, 256>());
  if (columns <= 512) return f(ShapeTag<32, 16, 256>());
  if (columns <= 768) return f(ShapeTag<32, 24, 256>());
  if (columns <= 1024) return f(ShapeTag<32, 32, 256>());
  if (columns <= 1536) return f(ShapeTag<96, 16, 96>());
  if (columns <= 2048) return f(ShapeTag<128, 16, 128>());
  if (columns <= 3072) return f(ShapeTag<192, 16, 192>());
  if (columns <= 4096) return f(ShapeTag<256, 16, 256>());
  if (columns <= 5120) return f(ShapeTag<160, 32, 160>());
  if (columns <= 8192) return f(ShapeTag<256, 32, 256>());
  if (columns <= 12288) return f(ShapeTag<384, 32, 384>());
  f(ShapeTag<512, 32, 512>());
}

/// Rows that a warp or block works on at once, so that short rows too keep many bytes in flight.
template <class S>
inline constexpr int kRowsAtOnce = S::kThreads == 32 && S::kElements <= 16 ? 32 / S::kElements : 1;

/// What is added to x first.
enum class NormBranch { none, whole, dropped };

/// Blocks that a multiprocessor's registers must have room for: as many as there are without spills.
template <class T, class S, NormBranch kBranch>
inline constexpr int kForwardBlocks = (sizeof(T) == 4 || kBranch == NormBranch::dropped ? 512
                                       : S::kThreads > 32 && S::kElements <= 16         ? 1536
                                                                                        : 1024) /
                                      S::kBlock;

template <bool kCentred, NormBranch kBranch, class S, class T>
__global__ void __launch_bounds__(S::kBlock, kForwardBlocks<T, S, kBranch>) norm_forward_kernel(NormForwardData<T> p) {
  using C = compute_t<T>;
  constexpr int kRows = kRowsAtOnce<S>;
  constexpr int kWidth = S::kWidth;
  constexpr int kVectors = S::kVectors;
  __shared__ WarpStates<S, C> shared[2];
  wait_for_kernels_in_front();
  let_next_kernel_begin();
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * S::kGroups + threadIdx.y) * kRows;
  if (first >= p.rows) return;  // the same for all threads of a row
  const int columns = static_cast<int>(p.columns);
  const int rows = static_cast<int>(p.rows - first < kRows ? p.rows - first : kRows);
  // The thread's first element; the others lie at distances known to the compiler.
  const std::int64_t begin = first * columns + S::column(0);
  const auto exists = [&](int r, int v) { return S::column(v) < columns && r < rows; };
  Vector<T, kWidth> s[kRows][kVectors] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (exists(r, v)) s[r][v] = load_vector<kWidth>(p.x + begin + r * columns + v * S::kStep);
    }
  }
  if constexpr (kBranch != NormBranch::none) {
    Vector<T, kWidth> branch[kRows][kVectors];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        if (exists(r, v)) branch[r][v] = load_vector<kWidth>(p.branch + begin + r * columns + v * S::kStep);
      }
    }
    [[maybe_unused]] const std::uint64_t offset = p.mask.offset();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        if (!exists(r, v)) continue;
        const std::int64_t at = begin + r * columns + v * S::kStep;
        auto added = widen_vector(branch[r][v]);
        if constexpr (kBranch == NormBranch::dropped) p.mask.apply(added, offset, at);
          // The statistics are those of the sum as stored, so that the backward sees the same numbers.
#pragma unroll
        for (int k = 0; k < kWidth; ++k) s[r][v].at[k] = narrow_to<T>(widen(s[r][v].at[k]) + added.at[k]);
        store_vector(p.sum + at, s[r][v]);
      }
    }
  }
  keep_narrow(s);
  C mean[kRows] = {};
  C rstd[kRows];
  const C per_column = C(1) / static_cast<C>(columns);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if constexpr (kCentred) {
      C total = 0;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
#pragma unroll
        for (int k = 0; k < kWidth; ++k) total += widen(s[r][v].at[k]);  // zeros behind the row's end
      }
      mean[r] = combine_row<S>(total, Plus(), shared[0]) * per_column;
    }
    C squares = 0;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (kCentred && S::column(v) >= columns) continue;
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const C d = widen(s[r][v].at[k]) - mean[r];
        squares += d * d;
      }
    }
    rstd[r] = C(1) / sqrt(combine_row<S>(squares, Plus(), shared[1]) * per_column + p.eps);
  }
  keep_narrow(s);
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if (S::column(v) >= columns) continue;
    const auto w = load_parameter<kWidth>(p.weight, S::column(v), C(1));
    const auto b = load_parameter<kWidth>(p.bias, S::column(v), C(0));
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) continue;
      Vector<T, kWidth> y;
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        y.at[k] = narrow_to<T>((widen(s[r][v].at[k]) - mean[r]) * rstd[r] * w.at[k] + b.at[k]);
      }
      store_vector(p.y + begin + r * columns + v * S::kStep, y);
    }
  }
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) continue;
    if constexpr (kCentred) p.mean[first + r] = mean[r];
    p.rstd[first + r] = rstd[r];
  }
}

}  // namespace trinix::cuda
