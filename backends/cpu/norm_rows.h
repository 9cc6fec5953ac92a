#pragma once

#include <cmath>
#include <cstdint>

#include <trinix/backends/cpu/random_bits.h>
#include <trinix/core/dtype.h>
#include <trinix/core/ops/dropout.h>

/// @file
/// The steps of core/ops/norm_arguments.h over one row of n elements, forward and backward. A row stays in the
/// first-level cache between them, so memory is read and written once. Weights and biases come as C, ones and zeros
/// where there are none, which leaves one loop for all cases.
///
/// What adds up a row is never inlined: the compiler makes copies of inlined loops and gives them vectors of different
/// widths, and then the bits of a sum depend on where a thread begins.

namespace trinix::cpu {

enum class NormKind { layer, rms };

/// Dropout of a branch; element i of the whole tensor draws number i.
template <class C>
struct BranchMask {
  RandomState random;
  std::uint32_t threshold;
  C scale;

  BranchMask(const RandomState& state, double p)
      : random(state), threshold(dropout_threshold(p)), scale(static_cast<C>(dropout_scale(p))) {}

  /// Calls f(i, n, factors) for tiles of a row whose first element is number `first`: factors[j] is what element i + j
  /// is multiplied by, and kept[j] whether it is.
  template <class F>
  void for_each_tile(std::int64_t first, std::int64_t n, F&& f) const {
    alignas(64) std::uint32_t bits[kRandomTile];
    for (std::int64_t i = 0; i < n; i += kRandomTile) {
      const std::int64_t count = std::min(kRandomTile, n - i);
      random_bits(random, first + i, count, bits);
      f(i, count, static_cast<const std::uint32_t*>(bits));
    }
  }
  [[nodiscard]] C apply(C value, std::uint32_t bits) const {
    const C scaled = value * scale;
    return dropout_keeps(bits, threshold) ? scaled : C(0);
  }
};

/// sum = x + branch, masked when `mask` is not null; `first` is the number of the row's first element.
template <class T>
void add_branch(const T* x, const T* branch, const BranchMask<compute_t<T>>* mask, std::int64_t first, T* sum,
                std::int64_t n) {
  using C = compute_t<T>;
  if (mask == nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) sum[i] = T(static_cast<C>(x[i]) + static_cast<C>(branch[i]));
    return;
  }
  mask->for_each_tile(first, n, [&](std::int64_t at, std::int64_t count, const std::uint32_t* bits) {
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) {
      sum[at + j] = T(static_cast<C>(x[at + j]) + mask->apply(static_cast<C>(branch[at + j]), bits[j]));
    }
  });
}

/// What a row is normalised by.
template <class C>
struct RowStatistics {
  C mean;  ///< 0 for RMS
  C rstd;

  [[nodiscard]] C hat(C s) const { return (s - mean) * rstd; }
};

template <NormKind kKind, class T>
[[gnu::noinline]] RowStatistics<compute_t<T>> row_statistics(const T* s, std::int64_t n, compute_t<T> eps) {
  using C = compute_t<T>;
  C mean = 0;
  if constexpr (kKind == NormKind::layer) {
    C total = 0;
#pragma omp simd reduction(+ : total)
    for (std::int64_t i = 0; i < n; ++i) total += static_cast<C>(s[i]);
    mean = total / static_cast<C>(n);
  }
  C squares = 0;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < n; ++i) {
    const C d = static_cast<C>(s[i]) - mean;
    squares += d * d;
  }
  return {mean, 1 / std::sqrt(squares / static_cast<C>(n) + eps)};
}

/// z = xhat * weight + bias; Z is T, or C when an activation follows.
template <class T, class Z>
void scale_row(const T* s, RowStatistics<compute_t<T>> row, const compute_t<T>* weight, const compute_t<T>* bias, Z* z,
               std::int64_t n) {
  using C = compute_t<T>;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) z[i] = Z(row.hat(static_cast<C>(s[i])) * weight[i] + bias[i]);
}

/// Which sums over rows a backward collects.
enum class NormSums { none, weight, weight_and_bias };

/// The means over a row that its gradient needs.
template <class C>
struct GradientMeans {
  C g;  ///< 0 for RMS
  C g_hat;
};

/// Adds the row's shares to dweight and dbias, n elements each. D is T, or C for the gradient of an activation's input.
template <NormKind kKind, NormSums kSums, class T, class D>
[[gnu::noinline]] GradientMeans<compute_t<T>> gradient_means(const T* s, const D* dz, RowStatistics<compute_t<T>> row,
                                                             const compute_t<T>* weight, compute_t<T>* dweight,
                                                             compute_t<T>* dbias, std::int64_t n) {
  using C = compute_t<T>;
  C sum_g = 0;
  C sum_g_hat = 0;
#pragma omp simd reduction(+ : sum_g, sum_g_hat)
  for (std::int64_t i = 0; i < n; ++i) {
    const C hat = row.hat(static_cast<C>(s[i]));
    const C d = static_cast<C>(dz[i]);
    const C g = d * weight[i];
    if constexpr (kKind == NormKind::layer) sum_g += g;
    sum_g_hat += g * hat;
    if constexpr (kSums != NormSums::none) dweight[i] += d * hat;
    if constexpr (kSums == NormSums::weight_and_bias) dbias[i] += d;
  }
  return {sum_g / static_cast<C>(n), sum_g_hat / static_cast<C>(n)};
}

/// Where the gradients of one row go; null where they are not wanted.
template <class T>
struct RowGradients {
  const T* dsum;  ///< added, if not null
  T* dx;
  T* dbranch;
  const BranchMask<compute_t<T>>* mask;  ///< of dbranch
  std::int64_t first;                    ///< number of the row's first element
};

template <class T, class D>
void store_gradients(const T* s, const D* dz, RowStatistics<compute_t<T>> row, GradientMeans<compute_t<T>> means,
                     const compute_t<T>* weight, const RowGradients<T>& to, std::int64_t n) {
  using C = compute_t<T>;
  const auto of_norm = [=](std::int64_t i) {
    const C g = static_cast<C>(dz[i]) * weight[i];
    return row.rstd * (g - means.g - row.hat(static_cast<C>(s[i])) * means.g_hat);
  };
  const T* dsum = to.dsum;
  T* dx = to.dx;
  if (to.dbranch == nullptr) {
    if (dx == nullptr) return;
    if (dsum == nullptr) {
#pragma omp simd
      for (std::int64_t i = 0; i < n; ++i) dx[i] = T(of_norm(i));
    } else {
#pragma omp simd
      for (std::int64_t i = 0; i < n; ++i) dx[i] = T(of_norm(i) + static_cast<C>(dsum[i]));
    }
    return;
  }
  to.mask->for_each_tile(to.first, n, [&](std::int64_t at, std::int64_t count, const std::uint32_t* bits) {
    alignas(64) C ds[kRandomTile];
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) ds[j] = of_norm(at + j);
    if (dsum != nullptr) {
#pragma omp simd
      for (std::int64_t j = 0; j < count; ++j) ds[j] += static_cast<C>(dsum[at + j]);
    }
    if (dx != nullptr) {
#pragma omp simd
      for (std::int64_t j = 0; j < count; ++j) dx[at + j] = T(ds[j]);
    }
    T* dbranch = to.dbranch + at;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) dbranch[j] = T(to.mask->apply(ds[j], bits[j]));
  });
}

}  // namespace trinix::cpu
