#pragma once

#include <algorithm>
#include <optional>

#include <trinix/backends/cpu/gemm/workspace.h>
#include <trinix/backends/cpu/norm_rows.h>
#include <trinix/backends/cpu/parallel.h>
#include <trinix/backends/cpu/scratch.h>
#include <trinix/backends/cpu/staging.h>
#include <trinix/backends/cpu/unary_rows.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/backend.h>
#include <trinix/core/ops/norm_arguments.h>

/// @file
/// Normalisation over all rows: threads, weights, and the sums over rows. Results do not depend on the number of
/// threads.

namespace trinix::cpu {

/// The data of an optional view.
template <class T>
[[nodiscard]] T* optional_data(const View& v) {
  return v.defined ? v.as<T>() : nullptr;
}

/// n values of a parameter as C, or n times `missing`.
template <class T>
void widen_parameter(const View& v, compute_t<T> missing, compute_t<T>* to, std::int64_t n) {
  if (!v.defined) {
    std::fill(to, to + n, missing);
    return;
  }
  const T* from = v.as<T>();
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<compute_t<T>>(from[i]);
}

/// The part of a large tensor that a row begins at; null stays null.
template <class T>
[[nodiscard]] T* row_of(T* data, std::int64_t row, std::int64_t n) {
  return data == nullptr ? nullptr : data + row * n;
}

/// Rows that are worth a thread's start.
[[nodiscard]] inline std::int64_t row_grain(std::int64_t n, std::int64_t cost) {
  return std::max<std::int64_t>(kGrain / (cost * std::max<std::int64_t>(n, 1)), 1);
}

template <class C>
[[nodiscard]] std::optional<BranchMask<C>> branch_mask(const RandomState& random, double p) {
  if (p == 0) return std::nullopt;
  return BranchMask<C>(random, p);
}

/// What an activation adds to a row's work; nothing without one.
struct NoActivation {};
template <class C>
struct RowActivation {
  UnarySaved saved;
  UnaryRows<C> rows;

  explicit RowActivation(Activation a) : saved(saved_by(unary_of(a))), rows(unary_rows<C>(unary_of(a))) {}

  /// In place: from z and dy to dz.
  template <class T>
  void gradient(C* z, const T* dy, std::int64_t n) const {
    C stage[kStage];
    for (std::int64_t i = 0; i < n; i += kStage) {
      const std::int64_t m = std::min(kStage, n - i);
      if (saved == UnarySaved::y) rows.value(z + i, z + i, m, {});
      rows.gradient(staged(dy + i, 1, m, stage), z + i, z + i, m, {});
    }
  }
};

template <NormKind kKind, class T, class A>
void norm_forward_as(const NormForward& a, const A& activation) {
  using C = compute_t<T>;
  constexpr bool kActivated = !std::is_same_v<A, NoActivation>;
  const std::int64_t n = a.x.size(1);
  C* weight = static_cast<C*>(internal::thread_workspace(2 * sizeof(C) * static_cast<std::size_t>(n)));
  C* bias = weight + n;
  widen_parameter<T>(a.weight, C(1), weight, n);
  widen_parameter<T>(a.bias, C(0), bias, n);
  const T* const x = a.x.as<T>();
  const T* const branch = optional_data<T>(a.branch);
  T* const sum = optional_data<T>(a.sum);
  C* const means = optional_data<C>(a.mean);
  const auto mask = branch_mask<C>(a.random, a.dropout);
  const std::int64_t grain = row_grain(n, kActivated ? 8 : 4);
  parallel_for_with_scratch<C>(a.x.size(0), grain, kActivated ? n : 0, [&](std::int64_t row, std::int64_t end, C* z) {
    for (; row < end; ++row) {
      const T* s = x + row * n;
      if (branch != nullptr) {
        add_branch(s, branch + row * n, mask ? &*mask : nullptr, row * n, sum + row * n, n);
        s = sum + row * n;
      }
      const auto statistics = row_statistics<kKind>(s, n, static_cast<C>(a.eps));
      if (means != nullptr) means[row] = statistics.mean;
      a.rstd.as<C>()[row] = statistics.rstd;
      T* y = a.y.as<T>() + row * n;
      if constexpr (kActivated) {
        scale_row(s, statistics, weight, bias, z, n);
        activation.rows.value(z, z, n, {});
        store_stage(y, 1, z, n);
      } else {
        scale_row(s, statistics, weight, bias, y, n);
      }
    }
  });
}

/// Sums of partial rows, in their order, added to `out` or stored there.
template <class T>
void add_up_partials(const compute_t<T>* partials, std::int64_t count, std::int64_t stride, std::int64_t n,
                     const View& out, bool accumulate) {
  using C = compute_t<T>;
  T* const to = out.as<T>();
  const std::int64_t step = out.stride(0);
  parallel_for(n, std::max<std::int64_t>(kGrain / (count + 1), 64), [&](std::int64_t begin, std::int64_t end) {
    C totals[kStage];
    for (; begin < end; begin += kStage) {
      const std::int64_t m = std::min(kStage, end - begin);
      for (std::int64_t j = 0; j < m; ++j) totals[j] = accumulate ? static_cast<C>(to[(begin + j) * step]) : C(0);
      for (std::int64_t part = 0; part < count; ++part) {
        const C* from = partials + part * stride + begin;
#pragma omp simd
        for (std::int64_t j = 0; j < m; ++j) totals[j] += from[j];
      }
      for (std::int64_t j = 0; j < m; ++j) to[(begin + j) * step] = T(totals[j]);
    }
  });
}

template <NormKind kKind, NormSums kSums, class T, class A>
void norm_backward_as(const NormBackward& a, const A& activation) {
  using C = compute_t<T>;
  constexpr bool kActivated = !std::is_same_v<A, NoActivation>;
  const std::int64_t rows = a.s.size(0);
  const std::int64_t n = a.s.size(1);
  // The number of partial sums depends on the shape alone, so the result does not depend on the number of threads.
  const std::int64_t parts = std::clamp<std::int64_t>(rows / 16, 1, 64);
  const std::int64_t sums = kSums == NormSums::none ? 0 : kSums == NormSums::weight ? n : 2 * n;
  const std::int64_t parameters = kActivated ? 2 * n : n;
  C* const partials =
      static_cast<C*>(internal::thread_workspace(sizeof(C) * static_cast<std::size_t>(parts * sums + parameters)));
  C* const weight = partials + parts * sums;
  widen_parameter<T>(a.weight, C(1), weight, n);
  if constexpr (kActivated) widen_parameter<T>(a.bias, C(0), weight + n, n);
  const C* const means = optional_data<C>(a.mean);
  const auto mask = branch_mask<C>(a.random, a.dropout);
  const auto one_row = [&](std::int64_t row, C* dweight, [[maybe_unused]] C* scratch) {
    const T* s = a.s.as<T>() + row * n;
    const T* dy = a.dy.as<T>() + row * n;
    const RowStatistics<C> statistics{means == nullptr ? C(0) : means[row], a.rstd.as<C>()[row]};
    const RowGradients<T> to{row_of(optional_data<T>(a.dsum), row, n), row_of(optional_data<T>(a.dx), row, n),
                             row_of(optional_data<T>(a.dbranch), row, n), mask ? &*mask : nullptr, row * n};
    const auto from = [&](const auto* dz) {
      const auto of_row = gradient_means<kKind, kSums>(s, dz, statistics, weight, dweight, dweight + n, n);
      store_gradients(s, dz, statistics, of_row, weight, to, n);
    };
    if constexpr (kActivated) {
      scale_row(s, statistics, weight, weight + n, scratch, n);
      activation.gradient(scratch, dy, n);
      from(static_cast<const C*>(scratch));
    } else {
      from(dy);
    }
  };
  const std::int64_t grain = row_grain(std::max<std::int64_t>(rows / parts, 1) * n, kActivated ? 16 : 8);
  parallel_for_with_scratch<C>(parts, grain, kActivated ? n : 0, [&](std::int64_t part, std::int64_t end, C* scratch) {
    for (; part < end; ++part) {
      C* const dweight = partials + part * sums;
      std::fill(dweight, dweight + sums, C(0));
      for (std::int64_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) {
        one_row(row, dweight, scratch);
      }
    }
  });
  if (a.dweight.defined) add_up_partials<T>(partials, parts, sums, n, a.dweight, a.accumulate_dweight);
  if (a.dbias.defined) add_up_partials<T>(partials + n, parts, sums, n, a.dbias, a.accumulate_dbias);
}

/// forward of LayerNorm, AddLayerNorm (kKind = layer), RmsNorm, AddRmsNorm (rms), RmsNormActivation (kActivated).
template <NormKind kKind, bool kActivated = false>
void norm_forward(const NormForward& a, const Stream&) {
  dispatch_floating(a.x.dtype, "norm", [&]<class T>() {
    if constexpr (kActivated) {
      norm_forward_as<kKind, T>(a, RowActivation<compute_t<T>>(a.activation));
    } else {
      norm_forward_as<kKind, T>(a, NoActivation());
    }
  });
}

template <NormKind kKind, bool kActivated = false>
void norm_backward(const NormBackward& a, const Stream&) {
  dispatch_floating(a.s.dtype, "norm", [&]<class T>() {
    const auto with = [&](const auto& activation) {
      if (a.dbias.defined) return norm_backward_as<kKind, NormSums::weight_and_bias, T>(a, activation);
      if (a.dweight.defined) return norm_backward_as<kKind, NormSums::weight, T>(a, activation);
      return norm_backward_as<kKind, NormSums::none, T>(a, activation);
    };
    if constexpr (kActivated) {
      with(RowActivation<compute_t<T>>(a.activation));
    } else {
      with(NoActivation());
    }
  });
}

}  // namespace trinix::cpu
