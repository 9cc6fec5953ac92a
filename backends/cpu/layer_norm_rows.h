#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <trinix/backends/cpu/gemm/workspace.h>
#include <trinix/backends/cpu/parallel.h>
#include <trinix/core/dtype.h>
#include <trinix/core/view.h>

/// @file
/// Layer normalisation of rows, with and without a residual addition before it. A row stays in the first-level cache
/// between the passes over it, so memory is read and written once.

namespace trinix::cpu {

/// Pointers of one forward call; optional ones are null.
template <class T>
struct LayerNormForward {
  const T* x;
  const T* branch;  ///< added to x first; then `sum` receives the sum
  const T* weight;
  const T* bias;
  T* sum;
  T* y;
  compute_t<T>* mean;
  compute_t<T>* rstd;
  compute_t<T> eps;
};

template <class T>
void layer_norm_row(const LayerNormForward<T>& p, std::int64_t row, std::int64_t n) {
  using C = compute_t<T>;
  const T* x = p.x + row * n;
  if (p.branch != nullptr) {
    const T* branch = p.branch + row * n;
    T* sum = p.sum + row * n;
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) sum[i] = T(static_cast<C>(x[i]) + static_cast<C>(branch[i]));
    x = sum;
  }
  C total = 0;
#pragma omp simd reduction(+ : total)
  for (std::int64_t i = 0; i < n; ++i) total += static_cast<C>(x[i]);
  const C mean = total / static_cast<C>(n);
  C squares = 0;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < n; ++i) {
    const C d = static_cast<C>(x[i]) - mean;
    squares += d * d;
  }
  const C rstd = 1 / std::sqrt(squares / static_cast<C>(n) + p.eps);
  p.mean[row] = mean;
  p.rstd[row] = rstd;
  T* y = p.y + row * n;
  const T* weight = p.weight;
  const T* bias = p.bias;
  if (weight != nullptr && bias != nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) {
      y[i] = T((static_cast<C>(x[i]) - mean) * rstd * static_cast<C>(weight[i]) + static_cast<C>(bias[i]));
    }
  } else {
    for (std::int64_t i = 0; i < n; ++i) {
      const C xhat = (static_cast<C>(x[i]) - mean) * rstd;
      const C scaled = weight != nullptr ? xhat * static_cast<C>(weight[i]) : xhat;
      y[i] = T(bias != nullptr ? scaled + static_cast<C>(bias[i]) : scaled);
    }
  }
}

template <class T>
void layer_norm_rows(const LayerNormForward<T>& p, std::int64_t rows, std::int64_t n) {
  parallel_for(rows, std::max<std::int64_t>(kGrain / (4 * std::max<std::int64_t>(n, 1)), 1),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t row = begin; row < end; ++row) layer_norm_row(p, row, n);
               });
}

/// Pointers of one backward call; optional ones are null.
template <class T>
struct LayerNormBackward {
  const T* x;
  const T* weight;
  const compute_t<T>* mean;
  const compute_t<T>* rstd;
  const T* dy;
  const T* dsum;  ///< added to dx
  T* dx;
  T* dweight;
  T* dbias;
  bool accumulate_dweight;
  bool accumulate_dbias;
};

/// dx of one row; its shares of dweight and dbias are added to the partial sums, of n elements each.
template <class T>
void layer_norm_backward_row(const LayerNormBackward<T>& p, std::int64_t row, std::int64_t n, compute_t<T>* dweight,
                             compute_t<T>* dbias) {
  using C = compute_t<T>;
  const T* x = p.x + row * n;
  const T* dy = p.dy + row * n;
  const T* weight = p.weight;
  const C mean = p.mean[row];
  const C rstd = p.rstd[row];
  C sum_g = 0;
  C sum_gx = 0;
  if (weight != nullptr) {
#pragma omp simd reduction(+ : sum_g, sum_gx)
    for (std::int64_t i = 0; i < n; ++i) {
      const C xhat = (static_cast<C>(x[i]) - mean) * rstd;
      const C d = static_cast<C>(dy[i]);
      const C g = d * static_cast<C>(weight[i]);
      sum_g += g;
      sum_gx += g * xhat;
      dweight[i] += d * xhat;
      dbias[i] += d;
    }
  } else {
#pragma omp simd reduction(+ : sum_g, sum_gx)
    for (std::int64_t i = 0; i < n; ++i) {
      const C xhat = (static_cast<C>(x[i]) - mean) * rstd;
      const C d = static_cast<C>(dy[i]);
      sum_g += d;
      sum_gx += d * xhat;
      dbias[i] += d;
    }
  }
  if (p.dx == nullptr) return;
  const C mean_g = sum_g / static_cast<C>(n);
  const C mean_gx = sum_gx / static_cast<C>(n);
  T* dx = p.dx + row * n;
  const T* dsum = p.dsum == nullptr ? nullptr : p.dsum + row * n;
  const auto gradient = [&](std::int64_t i) {
    const C xhat = (static_cast<C>(x[i]) - mean) * rstd;
    const C g = weight != nullptr ? static_cast<C>(dy[i]) * static_cast<C>(weight[i]) : static_cast<C>(dy[i]);
    return rstd * (g - mean_g - xhat * mean_gx);
  };
  if (dsum != nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) dx[i] = T(gradient(i) + static_cast<C>(dsum[i]));
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) dx[i] = T(gradient(i));
  }
}

/// Sums of partial rows, in their order, added to `out` or stored there.
template <class T>
void add_up_partials(const compute_t<T>* partials, std::int64_t count, std::int64_t stride, std::int64_t n, T* out,
                     bool accumulate) {
  using C = compute_t<T>;
  parallel_for(n, std::max<std::int64_t>(kGrain / (count + 1), 64), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      C total = accumulate ? static_cast<C>(out[i]) : C(0);
      for (std::int64_t part = 0; part < count; ++part) total += partials[part * stride + i];
      out[i] = T(total);
    }
  });
}

template <class T>
void layer_norm_backward_rows(const LayerNormBackward<T>& p, std::int64_t rows, std::int64_t n) {
  using C = compute_t<T>;
  // The number of partial sums depends on the shape alone, so the result does not depend on the number of threads.
  const std::int64_t parts = std::clamp<std::int64_t>(rows / 16, 1, 32);
  const std::int64_t stride = 2 * n;
  C* partials = static_cast<C*>(internal::thread_workspace(sizeof(C) * static_cast<std::size_t>(parts * stride)));
  const std::int64_t cost = std::max<std::int64_t>(8 * rows / parts * n, 1);
  parallel_for(parts, std::max<std::int64_t>(kGrain / cost, 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part) {
      C* dweight = partials + part * stride;
      std::fill(dweight, dweight + stride, C(0));
      for (std::int64_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) {
        layer_norm_backward_row(p, row, n, dweight, dweight + n);
      }
    }
  });
  if (p.dweight != nullptr) add_up_partials<T>(partials, parts, stride, n, p.dweight, p.accumulate_dweight);
  if (p.dbias != nullptr) add_up_partials<T>(partials + n, parts, stride, n, p.dbias, p.accumulate_dbias);
}

/// The data of an optional view.
template <class T>
[[nodiscard]] T* optional_data(const View& v) {
  return v.defined ? v.as<T>() : nullptr;
}

}  // namespace trinix::cpu
