#pragma once

#include <array>
#include <cstdint>

#include <trinix/backends/cpu/parallel.h>
#include <trinix/backends/walk.h>

/// @file
/// Runs a loop body over rows of a Walk, in parallel. Most rows are long with inner strides 1 or 0, so that loops over
/// them vectorise.

namespace trinix::cpu {

/// Calls f(offsets, count) for pieces of rows that together cover everything, in parallel when there is enough work;
/// `cost` is the work per element in units of one cheap element.
template <int N, class F>
void for_each_row(const Walk<N>& w, std::int64_t cost, F&& f) {
  const std::int64_t inner = w.inner();
  const std::int64_t rows = w.rows();
  const std::int64_t total = inner * rows;
  if (total == 0) return;
  // A single row is shared out by elements, several by rows. There is one call of f in the code, so that a kernel's
  // loop is compiled once.
  const bool single = rows == 1;
  const std::int64_t work = single ? cost : cost * inner;
  parallel_for(single ? inner : rows, std::max<std::int64_t>(kGrain / work, 1),
               [&](std::int64_t begin, std::int64_t end) {
                 std::array<std::int64_t, N> offsets{};
                 for (std::int64_t r = begin; r < end; r = single ? end : r + 1) {
                   if (single) {
                     for (int v = 0; v < N; ++v) offsets[v] = begin * w.inner_stride(v);
                   } else {
                     offsets = row_offsets(w, r);
                   }
                   f(offsets, single ? end - begin : inner);
                 }
               });
}

/// Calls f(offsets, at, n) for the pieces of rows that make up elements first .. first + count of the walk in row-major
/// order; `at` counts from `first`.
template <int N, class F>
void for_each_piece(const Walk<N>& w, std::int64_t first, std::int64_t count, F&& f) {
  const std::int64_t inner = w.inner();
  for (std::int64_t at = 0; at < count;) {
    const std::int64_t row = (first + at) / inner;
    const std::int64_t column = (first + at) % inner;
    const std::int64_t n = std::min(inner - column, count - at);
    auto offsets = row_offsets(w, row);
    for (int v = 0; v < N; ++v) offsets[v] += column * w.inner_stride(v);
    f(offsets, at, n);
    at += n;
  }
}

}  // namespace trinix::cpu
