#pragma once

#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/rows.cuh>
#include <trinix/core/view.h>

/// @file
/// Layer normalisation, alone and after adding a branch to the residual: the kernels behind core/ops/layer_norm.h and
/// core/ops/add_layer_norm.h.
///
/// kThreads threads per row, which they hold in registers: kVectors vectors of kWidth elements each. Rows short enough
/// for one warp need no barrier, so a block takes kRowGroups of them side by side. Rows that are not aligned take
/// kWidth = 1; rows too long for the registers go to the composed reference. Floors, in tensors moved: forward 2 (with
/// residual 4), backward 3 (with the residual's gradient 4).

namespace trinix::cuda {

/// Arguments of both forwards; null pointers are not given.
template <class T>
struct NormForward {
  const T* x;
  const T* branch;
  const T* weight;
  const T* bias;
  T* sum;
  T* y;
  compute_t<T>* mean;
  compute_t<T>* rstd;
  std::int64_t rows;
  std::int64_t columns;
  compute_t<T> eps;
};

template <class T>
struct NormBackward {
  const T* x;  ///< what was normalised
  const T* weight;
  const compute_t<T>* mean;
  const compute_t<T>* rstd;
  const T* dsum;
  const T* dy;
  T* dx;
  compute_t<T>* partial_dweight;  ///< one row per block
  compute_t<T>* partial_dbias;
  std::int64_t rows;
  std::int64_t columns;
};

template <int kThreads, int kWidth, int kVectors, class T>
__global__ void __launch_bounds__(kThreads* kRowGroups<kThreads>) norm_forward_kernel(NormForward<T> p) {
  using C = compute_t<T>;
  __shared__ C shared[kThreads / kWarp];
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRowGroups<kThreads> + threadIdx.y;
  if (row >= p.rows) return;
  const std::int64_t base = row * p.columns;
  Vector<C, kWidth> held[kVectors];
  C sum = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
    if (c < p.columns) {
      const auto x = load_vector<kWidth>(p.x + base + c);
      Vector<T, kWidth> stored = x;
      if (p.branch != nullptr) {
        const auto b = load_vector<kWidth>(p.branch + base + c);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) stored.at[k] = narrow_to<T>(widen(x.at[k]) + widen(b.at[k]));
        store_vector(p.sum + base + c, stored);
      }
      // The statistics are those of the sum as stored, so that the backward sees the same numbers.
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        held[v].at[k] = widen(stored.at[k]);
        sum += held[v].at[k];
      }
    }
  }
  const C mean = block_combine<kThreads>(sum, Plus(), shared) / static_cast<C>(p.columns);
  C squares = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
    if (c < p.columns) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const C d = held[v].at[k] - mean;
        squares += d * d;
      }
    }
  }
  const C variance = block_combine<kThreads>(squares, Plus(), shared) / static_cast<C>(p.columns);
  const C rstd = C(1) / sqrt(variance + p.eps);
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
    if (c < p.columns) {
      Vector<T, kWidth> y;
      Vector<T, kWidth> w, b;
      if (p.weight != nullptr) w = load_vector<kWidth>(p.weight + c);
      if (p.bias != nullptr) b = load_vector<kWidth>(p.bias + c);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        C value = (held[v].at[k] - mean) * rstd;
        if (p.weight != nullptr) value *= widen(w.at[k]);
        if (p.bias != nullptr) value += widen(b.at[k]);
        y.at[k] = narrow_to<T>(value);
      }
      store_vector(p.y + base + c, y);
    }
  }
  if (threadIdx.x == 0) {
    p.mean[row] = mean;
    p.rstd[row] = rstd;
  }
}

/// The sums of a block's groups as row blockIdx.x of `partial`; nothing if that is null.
template <int kThreads, int kWidth, int kVectors, class C>
__device__ void store_partial_row(const Vector<C, kWidth> (&sums)[kVectors], C* partial, std::int64_t columns) {
  constexpr int kGroups = kRowGroups<kThreads>;
  if (partial == nullptr) return;  // the same for all threads
  partial += blockIdx.x * columns;
  if constexpr (kGroups == 1) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
      if (c < columns) {
#pragma unroll
        for (int k = 0; k < kWidth; ++k) partial[c + k] = sums[v].at[k];
      }
    }
  } else {
    constexpr int kColumns = kThreads * kWidth * kVectors;
    __shared__ C all[kGroups][kColumns];
    __syncthreads();  // the last use of `all` is over
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        all[threadIdx.y][(v * kThreads + static_cast<int>(threadIdx.x)) * kWidth + k] = sums[v].at[k];
      }
    }
    __syncthreads();
    for (int c = threadIdx.y * kThreads + threadIdx.x; c < columns; c += kThreads * kGroups) {
      C sum = 0;
#pragma unroll
      for (int g = 0; g < kGroups; ++g) sum += all[g][c];
      partial[c] = sum;
    }
  }
}

/// Each group walks rows in steps of all groups of the grid and keeps the sums for dweight and dbias in registers; they
/// leave as one partial row per block. x and dy stay as loaded and are widened twice, which halves their registers.
template <int kThreads, int kWidth, int kVectors, class T>
__global__ void __launch_bounds__(kThreads* kRowGroups<kThreads>) norm_backward_kernel(NormBackward<T> p) {
  using C = compute_t<T>;
  constexpr int kGroups = kRowGroups<kThreads>;
  struct Pair {
    C g;
    C gx;
  };
  __shared__ Pair shared[kThreads / kWarp];
  Vector<C, kWidth> dweight[kVectors] = {};
  Vector<C, kWidth> dbias[kVectors] = {};
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kGroups;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kGroups + threadIdx.y; row < p.rows; row += step) {
    const std::int64_t base = row * p.columns;
    const C mean = p.mean[row];
    const C rstd = p.rstd[row];
    Vector<T, kWidth> x[kVectors];
    Vector<T, kWidth> dy[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
      if (c < p.columns) {
        x[v] = load_vector<kWidth>(p.x + base + c);
        dy[v] = load_vector<kWidth>(p.dy + base + c);
      }
    }
    Pair sums{C(0), C(0)};
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
      if (c < p.columns) {
        Vector<T, kWidth> w;
        if (p.weight != nullptr) w = load_vector<kWidth>(p.weight + c);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const C d = widen(dy[v].at[k]);
          const C hat = (widen(x[v].at[k]) - mean) * rstd;
          const C g = p.weight != nullptr ? d * widen(w.at[k]) : d;
          sums.g += g;
          sums.gx += g * hat;
          dweight[v].at[k] += d * hat;
          dbias[v].at[k] += d;
        }
      }
    }
    sums = block_combine<kThreads>(
        sums,
        [](Pair a, Pair b) {
          return Pair{a.g + b.g, a.gx + b.gx};
        },
        shared);
    const C mean_g = sums.g / static_cast<C>(p.columns);
    const C mean_gx = sums.gx / static_cast<C>(p.columns);
    if (p.dx == nullptr) continue;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
      if (c < p.columns) {
        Vector<T, kWidth> dx;
        Vector<T, kWidth> past;
        Vector<T, kWidth> w;
        if (p.weight != nullptr) w = load_vector<kWidth>(p.weight + c);
        if (p.dsum != nullptr) past = load_vector<kWidth>(p.dsum + base + c);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const C d = widen(dy[v].at[k]);
          const C hat = (widen(x[v].at[k]) - mean) * rstd;
          const C g = p.weight != nullptr ? d * widen(w.at[k]) : d;
          C value = rstd * (g - mean_g - hat * mean_gx);
          if (p.dsum != nullptr) value += widen(past.at[k]);
          dx.at[k] = narrow_to<T>(value);
        }
        store_vector(p.dx + base + c, dx);
      }
    }
  }
  store_partial_row<kThreads, kWidth, kVectors>(dweight, p.partial_dweight, p.columns);
  store_partial_row<kThreads, kWidth, kVectors>(dbias, p.partial_dbias, p.columns);
}

/// Gradients of weight (blockIdx.y = 0) and bias (1) from the partial rows, in their order.
template <class T>
struct NormGradients {
  const compute_t<T>* partial[2];  ///< null where the gradient is not wanted
  T* gradient[2];
  std::int64_t stride[2];
  bool accumulate[2];
  std::int64_t partial_rows;
  std::int64_t columns;
};

inline constexpr int kPartialThreads = 16;

template <class T>
__global__ void __launch_bounds__(kWarp* kPartialThreads) norm_gradients_kernel(NormGradients<T> p) {
  using C = compute_t<T>;
  __shared__ C sums[kPartialThreads][kWarp];
  const int which = blockIdx.y;
  const C* partial = p.partial[which];
  if (partial == nullptr) return;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  C sum = 0;
  if (column < p.columns) {
#pragma unroll 4
    for (std::int64_t r = threadIdx.y; r < p.partial_rows; r += kPartialThreads) sum += partial[r * p.columns + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= p.columns) return;
  C total = 0;
#pragma unroll
  for (int i = 0; i < kPartialThreads; ++i) total += sums[i][threadIdx.x];
  T& to = p.gradient[which][column * p.stride[which]];
  to = narrow_to<T>(p.accumulate[which] ? widen(to) + total : total);
}

/// Longest row that the registers of one block hold.
[[nodiscard]] inline std::int64_t longest_norm_row(DType t) { return t == DType::f64 ? 4096 : 8192; }

}  // namespace trinix::cuda
