#pragma once

#include <trinix/backends/cuda/device/async_copy.cuh>
#include <trinix/backends/cuda/norm/rows.cuh>

/// @file
/// The backward of rows of up to kLongestHeldRow elements, and the sums over rows.
///
/// Floor: 3 tensors of traffic, 4 with the residual's gradient (5 with its dropout). Blocks stay for the whole call,
/// one or two per multiprocessor, and walk over rows. The rows to come are copied to shared memory meanwhile
/// (cp.async, every thread its own elements, so that no barrier is needed), several stages ahead: that keeps 64 KB and
/// more in flight however few threads there are, and leaves the registers to the sums for dweight and dbias. Those
/// leave once, as one partial row per block: 132 rows of f32, which norm_gradients_kernel adds up in their order.

namespace trinix::cuda {

template <class F>
void with_backward_shape(std::int64_t columns, F f) {
  if (columns <= 256) return f(ShapeTag<32, 8, 512>());
  if (columns <= 512) return f(ShapeTag<32, 16, 512>());
  if (columns <= 768) return f(ShapeTag<32, 24, 512>());
  if (columns <= 1024) return f(ShapeTag<32, 32, 512>());
  if (columns <= 2048) return f(ShapeTag<256, 8, 256>());
  if (columns <= 4096) return f(ShapeTag<512, 8, 512>());
  if (columns <= 8192) return f(ShapeTag<512, 16, 512>());
  f(ShapeTag<512, 32, 512>());
}

/// Bytes that a multiprocessor keeps in flight, and the most stages of rows to hold them.
inline constexpr std::int64_t kBytesAhead = 65536;
inline constexpr int kMostStages = 6;

/// Bytes of one tensor's part of a stage.
template <class S>
inline constexpr int kStageBytes = S::kBlock* S::kVectors * 16;

/// Waits until the oldest of `stages` groups has arrived.
__device__ inline void wait_for_stage(int stages) {
  static_assert(kMostStages == 6);
  switch (stages) {
    case 1:
      return wait_async<0>();
    case 2:
      return wait_async<1>();
    case 3:
      return wait_async<2>();
    case 4:
      return wait_async<3>();
    case 5:
      return wait_async<4>();
    default:
      return wait_async<5>();
  }
}

/// A thread's elements of the rows under way: [stage][tensor: s, dy, dsum][vector][thread].
template <class S, class T>
struct StagedRows {
  static constexpr int kWidth = S::kWidth;
  using Access = Vector<T, kWidth>;

  Access* memory;
  int tensors;  ///< 2, or 3 with dsum
  int thread;

  [[nodiscard]] __device__ Access& at(int stage, int tensor, int v) const {
    return memory[((stage * tensors + tensor) * S::kVectors + v) * S::kBlock + thread];
  }
  /// Starts the copies of a row; none if there is no such row. Closes the group in any case.
  __device__ void fetch(const NormBackwardData<T>& p, int stage, std::int64_t row) const {
    if (row < p.rows) {
#pragma unroll
      for (int v = 0; v < S::kVectors; ++v) {
        if (S::column(v) >= p.columns) continue;
        const std::int64_t from = row * p.columns + S::column(v);
        copy_async(&at(stage, 0, v), reinterpret_cast<const Access*>(p.s + from));
        copy_async(&at(stage, 1, v), reinterpret_cast<const Access*>(p.dy + from));
        if (tensors == 3) copy_async(&at(stage, 2, v), reinterpret_cast<const Access*>(p.dsum + from));
      }
    }
    commit_async();
  }
};

/// The two sums that a row's gradient needs; RMS has the second only.
template <bool kCentred, class C>
struct GradientSums {
  C g;
  C g_hat;
};
template <class C>
struct GradientSums<false, C> {
  C g_hat;
};
struct MergeGradientSums {
  template <bool kCentred, class C>
  __device__ GradientSums<kCentred, C> operator()(GradientSums<kCentred, C> a,
                                                  const GradientSums<kCentred, C>& b) const {
    if constexpr (kCentred) a.g += b.g;
    a.g_hat += b.g_hat;
    return a;
  }
};

/// Stores the sums of a block's groups as its row of `partial`; nothing if that is null. `all` is the block's shared
/// memory, whose last use may be under way.
template <class S, class C>
__device__ void store_partial_row(const C (&sums)[S::kVectors][S::kWidth], C* partial, std::int64_t columns, C* all) {
  if (partial == nullptr) return;  // the same for all threads
  partial += blockIdx.x * columns;
  if constexpr (S::kGroups == 1) {
#pragma unroll
    for (int v = 0; v < S::kVectors; ++v) {
      const int c = S::column(v);
      if (c >= columns) continue;
#pragma unroll
      for (int k = 0; k < S::kWidth; ++k) partial[c + k] = sums[v][k];
    }
  } else {
    constexpr int kColumns = S::kThreads * S::kElements;
    __syncthreads();
#pragma unroll
    for (int v = 0; v < S::kVectors; ++v) {
#pragma unroll
      for (int k = 0; k < S::kWidth; ++k) all[threadIdx.y * kColumns + S::column(v) + k] = sums[v][k];
    }
    __syncthreads();
    for (int c = threadIdx.y * S::kThreads + threadIdx.x; c < columns; c += S::kBlock) {
      C sum = 0;
#pragma unroll
      for (int g = 0; g < S::kGroups; ++g) sum += all[g * kColumns + c];
      partial[c] = sum;
    }
  }
}

/// With kCentred sums for dbias are collected too.
template <bool kCentred, class S, class T>
__global__ void __launch_bounds__(S::kBlock, 512 / S::kBlock) norm_backward_kernel(NormBackwardData<T> p, int stages) {
  using C = compute_t<T>;
  constexpr int kWidth = S::kWidth;
  constexpr int kVectors = S::kVectors;
  using Sums = GradientSums<kCentred, C>;
  extern __shared__ float4 staged_memory[];
  __shared__ Sums shared[S::kThreads / kWarp];
  const StagedRows<S, T> staged{reinterpret_cast<Vector<T, kWidth>*>(staged_memory), p.dsum != nullptr ? 3 : 2,
                                static_cast<int>(threadIdx.y * S::kThreads + threadIdx.x)};
  const std::uint64_t offset = p.mask.offset();
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * S::kGroups;
  std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * S::kGroups + threadIdx.y;
  C dweight[kVectors][kWidth] = {};
  C dbias[kVectors][kWidth] = {};
  for (int i = 0; i < stages; ++i) staged.fetch(p, i, row + i * step);
  const auto statistic = [&](const C* of, std::int64_t at) { return at < p.rows ? of[at] : C(0); };
  C mean = kCentred ? statistic(p.mean, row) : C(0);
  C rstd = statistic(p.rstd, row);
  for (int stage = 0; row < p.rows; row += step, stage = stage + 1 < stages ? stage + 1 : 0) {
    // Asked for a whole row before they are used.
    const C next_mean = kCentred ? statistic(p.mean, row + step) : C(0);
    const C next_rstd = statistic(p.rstd, row + step);
    wait_for_stage(stages);
    Sums sums{};
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int c = S::column(v);
      if (c >= p.columns) continue;
      const auto s = widen_vector(staged.at(stage, 0, v));
      const auto dy = widen_vector(staged.at(stage, 1, v));
      const auto w = load_parameter<kWidth>(p.weight, c, C(1));
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const C hat = (s.at[k] - mean) * rstd;
        const C g = dy.at[k] * w.at[k];
        if constexpr (kCentred) {
          sums.g += g;
          dbias[v][k] += dy.at[k];
        }
        sums.g_hat += g * hat;
        dweight[v][k] += dy.at[k] * hat;
      }
    }
    if (p.dx != nullptr || p.dbranch != nullptr) {
      sums = block_combine<S::kThreads>(sums, MergeGradientSums(), shared);
      C mean_g = 0;
      if constexpr (kCentred) mean_g = sums.g / static_cast<C>(p.columns);
      const C mean_g_hat = sums.g_hat / static_cast<C>(p.columns);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        const int c = S::column(v);
        if (c >= p.columns) continue;
        const auto s = widen_vector(staged.at(stage, 0, v));
        const auto dy = widen_vector(staged.at(stage, 1, v));
        const auto w = load_parameter<kWidth>(p.weight, c, C(1));
        Vector<C, kWidth> ds;
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const C hat = (s.at[k] - mean) * rstd;
          ds.at[k] = rstd * (dy.at[k] * w.at[k] - mean_g - hat * mean_g_hat);
        }
        if (p.dsum != nullptr) {
          const auto dsum = widen_vector(staged.at(stage, 2, v));
#pragma unroll
          for (int k = 0; k < kWidth; ++k) ds.at[k] += dsum.at[k];
        }
        const std::int64_t at = row * p.columns + c;
        if (p.dx != nullptr) store_vector(p.dx + at, narrow_vector<T>(ds));
        if (p.dbranch != nullptr) {
          p.mask.apply(ds, offset, at);
          store_vector(p.dbranch + at, narrow_vector<T>(ds));
        }
      }
    }
    staged.fetch(p, stage, row + stages * step);
    mean = next_mean;
    rstd = next_rstd;
  }
  auto* all = reinterpret_cast<C*>(staged_memory);
  store_partial_row<S>(dweight, p.partial_dweight, p.columns, all);
  if constexpr (kCentred) store_partial_row<S>(dbias, p.partial_dbias, p.columns, all);
}

/// The gradient of one parameter from its partial rows.
template <class T>
struct NormGradient {
  const compute_t<T>* partial;  ///< null when it is not wanted
  T* gradient;
  std::int64_t stride;
  bool accumulate;
};
template <class T>
struct NormGradients {
  NormGradient<T> weight;
  NormGradient<T> bias;
  std::int64_t partial_rows;
  std::int64_t columns;
};

inline constexpr int kPartialThreads = 16;

/// blockIdx.y = 0: of the weight; 1: of the bias. The partial rows are added up in their order.
template <class T>
__global__ void __launch_bounds__(kWarp* kPartialThreads) norm_gradients_kernel(NormGradients<T> p) {
  using C = compute_t<T>;
  __shared__ C sums[kPartialThreads][kWarp];
  const NormGradient<T> of = blockIdx.y == 0 ? p.weight : p.bias;
  if (of.partial == nullptr) return;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  C sum = 0;
  if (column < p.columns) {
#pragma unroll 4
    for (std::int64_t r = threadIdx.y; r < p.partial_rows; r += kPartialThreads) {
      sum += of.partial[r * p.columns + column];
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= p.columns) return;
  C total = 0;
#pragma unroll
  for (int i = 0; i < kPartialThreads; ++i) total += sums[i][threadIdx.x];
  T& to = of.gradient[column * of.stride];
  to = narrow_to<T>(of.accumulate ? widen(to) + total : total);
}

}  // namespace trinix::cuda
