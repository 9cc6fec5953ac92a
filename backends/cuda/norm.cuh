#pragma once

#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/core/view.h>

/// @file
/// Layer normalisation, alone and after adding a branch to the residual: the kernels behind core/ops/layer_norm.h and
/// core/ops/add_layer_norm.h.
///
/// One block of kThreads per row, which it holds in registers: kVectors vectors of kWidth elements per thread. Rows
/// that are not aligned take kWidth = 1; rows too long for the registers go to the composed reference. Floors, in
/// tensors moved: forward 2 (with residual 4), backward 3 (with the residual's gradient 4).

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
__global__ void __launch_bounds__(kThreads) norm_forward_kernel(NormForward<T> p) {
  using C = compute_t<T>;
  __shared__ C shared[kThreads / kWarp];
  const std::int64_t row = blockIdx.x;
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

/// Each block walks rows blockIdx.x, + gridDim.x, ... and keeps the sums for dweight and dbias in registers; they leave
/// as one partial row per block.
template <int kThreads, int kWidth, int kVectors, class T>
__global__ void __launch_bounds__(kThreads) norm_backward_kernel(NormBackward<T> p) {
  using C = compute_t<T>;
  struct Pair {
    C g;
    C gx;
  };
  __shared__ Pair shared[kThreads / kWarp];
  Vector<C, kWidth> dweight[kVectors] = {};
  Vector<C, kWidth> dbias[kVectors] = {};
  for (std::int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const std::int64_t base = row * p.columns;
    const C mean = p.mean[row];
    const C rstd = p.rstd[row];
    Vector<C, kWidth> g[kVectors];
    Vector<C, kWidth> hat[kVectors];
    Pair sums{C(0), C(0)};
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
      if (c < p.columns) {
        const auto x = load_vector<kWidth>(p.x + base + c);
        const auto dy = load_vector<kWidth>(p.dy + base + c);
        Vector<T, kWidth> w;
        if (p.weight != nullptr) w = load_vector<kWidth>(p.weight + c);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const C d = widen(dy.at[k]);
          hat[v].at[k] = (widen(x.at[k]) - mean) * rstd;
          g[v].at[k] = p.weight != nullptr ? d * widen(w.at[k]) : d;
          sums.g += g[v].at[k];
          sums.gx += g[v].at[k] * hat[v].at[k];
          dweight[v].at[k] += d * hat[v].at[k];
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
        if (p.dsum != nullptr) past = load_vector<kWidth>(p.dsum + base + c);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          C value = rstd * (g[v].at[k] - mean_g - hat[v].at[k] * mean_gx);
          if (p.dsum != nullptr) value += widen(past.at[k]);
          dx.at[k] = narrow_to<T>(value);
        }
        store_vector(p.dx + base + c, dx);
      }
    }
  }
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
    if (c < p.columns) {
      const std::int64_t at = blockIdx.x * p.columns + c;
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        if (p.partial_dweight != nullptr) p.partial_dweight[at + k] = dweight[v].at[k];
        if (p.partial_dbias != nullptr) p.partial_dbias[at + k] = dbias[v].at[k];
      }
    }
  }
}

/// Longest row that the registers of one block hold.
[[nodiscard]] inline std::int64_t longest_norm_row(DType t) { return t == DType::f64 ? 4096 : 8192; }

/// Block and registers for a row length: (threads, elements per access, accesses per thread). Chosen so that no
/// instantiation spills.
template <class T, class F>
void with_norm_shape(std::int64_t columns, bool aligned, F f) {
  constexpr int kWide = kPerAccess<T>;
  if (aligned && columns % kWide == 0) {
    if (columns <= 32 * kWide * 4) return f.template operator()<32, kWide, 4>();
    if (columns <= 128 * kWide * 4) return f.template operator()<128, kWide, 4>();
    if constexpr (kWide == 8) return f.template operator()<256, kWide, 4>();
    if constexpr (kWide == 4) return f.template operator()<512, kWide, 4>();
  }
  if (columns <= 128 * 8) return f.template operator()<128, 1, 8>();
  if (columns <= 512 * 8) return f.template operator()<512, 1, 8>();
  if constexpr (kWide > 2) f.template operator()<512, 1, 16>();
}

}  // namespace trinix::cuda
