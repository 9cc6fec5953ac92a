// ArgReduce, of the contract core/ops/reduce.h.
#include <trinix/backends/cpu/lines.h>
#include <trinix/backends/cpu/reduction.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/reduce.h>

namespace trinix::cpu {

namespace {

/// First element equal to `wanted`, or first NaN if that is NaN.
template <class C>
std::int64_t find_first(const C* x, std::int64_t n, C wanted) {
  constexpr std::int64_t kBlock = 64;
  const bool is_nan = wanted != wanted;
  std::int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    int found = 0;
#pragma omp simd reduction(| : found)
    for (std::int64_t j = i; j < i + kBlock; ++j) found |= (x[j] == wanted) | (x[j] != x[j]);
    if (found != 0) break;
  }
  while (is_nan ? x[i] == x[i] : x[i] != wanted) ++i;
  return i;
}

/// Place of the first largest (or smallest) element of each of `columns` lines side by side.
template <class C>
void find_in_columns(const C* x, std::int64_t n, std::int64_t columns, bool largest, std::int64_t* places) {
  C best[kMostColumns];
  std::int64_t found[kMostColumns] = {};
  std::copy(x, x + columns, best);
  for (std::int64_t i = 1; i < n; ++i) {
    const C* row = x + i * columns;
    for (std::int64_t c = 0; c < columns; ++c) {
      const C v = row[c];
      const bool better = largest ? v > best[c] : v < best[c];
      const bool first_nan = (v != v) & (best[c] == best[c]);
      found[c] = (better | first_nan) ? i : found[c];
      best[c] = (better | first_nan) ? v : best[c];
    }
  }
  std::copy(found, found + columns, places);
}

void arg_reduce_forward(const ArgReduce::Forward& args, const Stream&) {
  // The output has size 1 along the dim: read as a broadcast view it has x's shape.
  View out = args.out;
  out.shape = args.x.shape;
  out.strides[args.dim] = 0;
  const Lines<2> lines = make_lines<2>({&args.x, &out}, args.dim);
  dispatch_all(args.x.dtype, "arg_reduce", [&]<class T>() {
    using C = std::conditional_t<std::is_integral_v<T>, std::int64_t, compute_t<T>>;
    const std::int64_t n = lines.length;
    const bool direct = std::is_same_v<T, C> && lines.step[0] == 1 && !lines.columns;
    for_each_line_block<C>(lines, direct ? 0 : 1, 2, [&](const auto& offsets, std::int64_t count, C* scratch) {
      const T* x = args.x.as<T>() + offsets[0];
      std::int64_t places[kMostColumns];
      if (!direct) gather_lines(lines, 0, scratch, x, count);
      if (lines.columns) {
        find_in_columns(scratch, n, count, args.largest, places);
      } else {
        for (std::int64_t l = 0; l < count; ++l) {
          const C* line = scratch + l * n;
          if constexpr (std::is_same_v<T, C>) {
            if (direct) line = x + l * lines.line_step(0);
          }
          const C best = args.largest ? reduce_row<Max, C>(line, n, C(0)) : reduce_row<Min, C>(line, n, C(0));
          places[l] = find_first(line, n, best);
        }
      }
      store_stage(args.out.as<std::int64_t>() + offsets[1], lines.line_step(1), places, count);
    });
  });
}

}  // namespace

void register_arg_reduce() {
  register_kernel<ArgReduce>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, arg_reduce_forward, nullptr});
}

}  // namespace trinix::cpu
