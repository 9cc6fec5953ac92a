#include <cmath>
#include <limits>

#include <trinix/backends/cpu/lines.h>
#include <trinix/backends/cpu/reduction.h>
#include <trinix/backends/cpu/vector_math.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/softmax.h>

namespace trinix::cpu {

namespace {

/// Sums are taken in lanes over blocks that stay in the first-level cache, and in double from block to block.
constexpr std::int64_t kBlock = 1024;
/// Work per element in units of one cheap element.
constexpr std::int64_t kCost = 6;

template <class F>
double sum_over_blocks(std::int64_t n, F&& block_sum) {
  double total = 0;
  for (std::int64_t i = 0; i < n; i += kBlock) total += static_cast<double>(block_sum(i, std::min(kBlock, n - i)));
  return total;
}

/// sum of exp(x - shift). The terms are left in `terms` unless that is null.
template <class C>
double sum_of_exp(const C* x, C* terms, std::int64_t n, C shift) {
  C buffer[kBlock];
  return sum_over_blocks(n, [&](std::int64_t i, std::int64_t m) {
    C* e = terms == nullptr ? buffer : terms + i;
#pragma omp simd
    for (std::int64_t j = 0; j < m; ++j) e[j] = vm::exp(x[i + j] - shift);
    return reduce_row<Sum, C>(e, m, C(0));
  });
}

template <class C>
bool is_minus_infinity(C x) {
  return x == -std::numeric_limits<C>::infinity();
}

/// One line; y may be x.
template <class C>
void softmax_line(const C* x, C* y, std::int64_t n, bool log) {
  const C largest = reduce_row<Max, C>(x, n, C(0));
  const C shift = is_minus_infinity(largest) ? C(0) : largest;
  if (log) {
    const double sum = sum_of_exp<C>(x, nullptr, n, shift);
    const C log_sum = sum == 0 ? C(0) : static_cast<C>(std::log(sum));
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] = (x[i] - shift) - log_sum;
  } else {
    const double sum = sum_of_exp<C>(x, y, n, shift);
    const C scale = sum == 0 ? C(0) : static_cast<C>(1 / sum);
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] *= scale;
  }
}

/// One line; dx may be dy.
template <class C>
void softmax_gradient_line(const C* y, const C* dy, C* dx, std::int64_t n) {
  C products[kBlock];
  const auto dot = static_cast<C>(sum_over_blocks(n, [&](std::int64_t i, std::int64_t m) {
#pragma omp simd
    for (std::int64_t j = 0; j < m; ++j) products[j] = y[i + j] * dy[i + j];
    return reduce_row<Sum, C>(products, m, C(0));
  }));
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) dx[i] = y[i] * (dy[i] - dot);
}

template <class C>
void log_softmax_gradient_line(const C* y, const C* dy, C* dx, std::int64_t n) {
  if (is_minus_infinity(reduce_row<Max, C>(y, n, C(0)))) {
    std::fill(dx, dx + n, C(0));
    return;
  }
  const auto sum = static_cast<C>(
      sum_over_blocks(n, [&](std::int64_t i, std::int64_t m) { return reduce_row<Sum, C>(dy + i, m, C(0)); }));
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) dx[i] = dy[i] - vm::exp(y[i]) * sum;
}

// The same for `columns` lines side by side, in place. Sums go into double every kGroup rows.
// ----------------------------

constexpr std::int64_t kGroup = 32;

/// totals[c] = sum over rows i of term(i, c)
template <class C, class F>
void sum_columns(std::int64_t n, std::int64_t columns, double* totals, F&& term) {
  std::fill(totals, totals + columns, 0.0);
  for (std::int64_t i = 0; i < n;) {
    C part[kMostColumns] = {};
    for (const std::int64_t stop = std::min(n, i + kGroup); i < stop; ++i) {
#pragma omp simd
      for (std::int64_t c = 0; c < columns; ++c) part[c] += term(i, c);
    }
    for (std::int64_t c = 0; c < columns; ++c) totals[c] += static_cast<double>(part[c]);
  }
}

template <class C>
void max_of_columns(const C* x, std::int64_t n, std::int64_t columns, C* largest) {
  std::fill(largest, largest + columns, Max::identity<C>());
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) largest[c] = Max::join(largest[c], x[i * columns + c]);
  }
}

template <class C>
void softmax_columns(C* x, std::int64_t n, std::int64_t columns, bool log) {
  C shift[kMostColumns];
  double sums[kMostColumns];
  max_of_columns(x, n, columns, shift);
  for (std::int64_t c = 0; c < columns; ++c) shift[c] = is_minus_infinity(shift[c]) ? C(0) : shift[c];
  if (log) {
    sum_columns<C>(n, columns, sums,
                   [&](std::int64_t i, std::int64_t c) { return vm::exp(x[i * columns + c] - shift[c]); });
    C log_sum[kMostColumns];
    for (std::int64_t c = 0; c < columns; ++c) log_sum[c] = sums[c] == 0 ? C(0) : static_cast<C>(std::log(sums[c]));
    for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
      for (std::int64_t c = 0; c < columns; ++c) x[i * columns + c] = (x[i * columns + c] - shift[c]) - log_sum[c];
    }
    return;
  }
  sum_columns<C>(n, columns, sums, [&](std::int64_t i, std::int64_t c) {
    return x[i * columns + c] = vm::exp(x[i * columns + c] - shift[c]);
  });
  C scale[kMostColumns];
  for (std::int64_t c = 0; c < columns; ++c) scale[c] = sums[c] == 0 ? C(0) : static_cast<C>(1 / sums[c]);
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) x[i * columns + c] *= scale[c];
  }
}

/// dx replaces dy.
template <class C>
void softmax_gradient_columns(const C* y, C* dy, std::int64_t n, std::int64_t columns, bool log) {
  double sums[kMostColumns];
  C sum[kMostColumns];
  if (log) {
    C largest[kMostColumns];
    max_of_columns(y, n, columns, largest);
    sum_columns<C>(n, columns, sums, [&](std::int64_t i, std::int64_t c) { return dy[i * columns + c]; });
    std::copy(sums, sums + columns, sum);
    for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
      for (std::int64_t c = 0; c < columns; ++c) {
        const C dx = dy[i * columns + c] - vm::exp(y[i * columns + c]) * sum[c];
        dy[i * columns + c] = is_minus_infinity(largest[c]) ? C(0) : dx;
      }
    }
    return;
  }
  sum_columns<C>(n, columns, sums,
                 [&](std::int64_t i, std::int64_t c) { return y[i * columns + c] * dy[i * columns + c]; });
  std::copy(sums, sums + columns, sum);
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c)
      dy[i * columns + c] = y[i * columns + c] * (dy[i * columns + c] - sum[c]);
  }
}

void softmax_forward(const Softmax::Forward& args, const Stream&) {
  const Lines<2> lines = make_lines<2>({&args.x, &args.y}, args.dim);
  dispatch_floating(args.x.dtype, "softmax", [&]<class T>() {
    using C = compute_t<T>;
    const std::int64_t n = lines.length;
    const bool direct = std::is_same_v<T, C> && !lines.columns && lines.step[0] == 1 && lines.step[1] == 1;
    for_each_line_block<C>(lines, direct ? 0 : 1, kCost, [&](const auto& offsets, std::int64_t count, C* scratch) {
      const T* x = args.x.as<T>() + offsets[0];
      T* y = args.y.as<T>() + offsets[1];
      if constexpr (std::is_same_v<T, C>) {
        if (direct) {
          for (std::int64_t l = 0; l < count; ++l) {
            softmax_line(x + l * lines.line_step(0), y + l * lines.line_step(1), n, args.log);
          }
          return;
        }
      }
      gather_lines(lines, 0, scratch, x, count);
      if (lines.columns) {
        softmax_columns(scratch, n, count, args.log);
      } else {
        for (std::int64_t l = 0; l < count; ++l) softmax_line(scratch + l * n, scratch + l * n, n, args.log);
      }
      scatter_lines(lines, 1, y, scratch, count);
    });
  });
}

void softmax_backward(const Softmax::Backward& args, const Stream&) {
  const Lines<3> lines = make_lines<3>({&args.y, &args.dy, &args.dx}, args.dim);
  dispatch_floating(args.y.dtype, "softmax", [&]<class T>() {
    using C = compute_t<T>;
    const std::int64_t n = lines.length;
    const bool dense = lines.step == std::array<std::int64_t, 3>{1, 1, 1};
    const bool direct = std::is_same_v<T, C> && !lines.columns && dense;
    const auto line = args.log ? log_softmax_gradient_line<C> : softmax_gradient_line<C>;
    for_each_line_block<C>(lines, direct ? 0 : 2, kCost, [&](const auto& offsets, std::int64_t count, C* scratch) {
      const T* y = args.y.as<T>() + offsets[0];
      const T* dy = args.dy.as<T>() + offsets[1];
      T* dx = args.dx.as<T>() + offsets[2];
      if constexpr (std::is_same_v<T, C>) {
        if (direct) {
          for (std::int64_t l = 0; l < count; ++l) {
            line(y + l * lines.line_step(0), dy + l * lines.line_step(1), dx + l * lines.line_step(2), n);
          }
          return;
        }
      }
      C* scratch_dy = scratch + lines.block * n;
      gather_lines(lines, 0, scratch, y, count);
      gather_lines(lines, 1, scratch_dy, dy, count);
      if (lines.columns) {
        softmax_gradient_columns(scratch, scratch_dy, n, count, args.log);
      } else {
        for (std::int64_t l = 0; l < count; ++l) line(scratch + l * n, scratch_dy + l * n, scratch_dy + l * n, n);
      }
      scatter_lines(lines, 2, dx, scratch_dy, count);
    });
  });
}

}  // namespace

void register_softmax() {
  register_kernel<Softmax>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, softmax_forward, softmax_backward});
}

}  // namespace trinix::cpu
