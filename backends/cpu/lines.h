#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/cpu/staging.h>

/// @file
/// For ops that work along one dim, line by line. Lines that are dense and long enough are worked on one by one, where
/// they lie or staged. All others (another dim, odd strides, very short lines) are gathered in blocks of neighbours,
/// element by element side by side, so that vectors run across the lines.

namespace trinix::cpu {

/// Most lines that are gathered side by side.
inline constexpr std::int64_t kMostColumns = 64;

/// How the lines of N views of one shape lie along one dim. The first view is the one that decides.
template <int N>
struct Lines {
  std::int64_t length = 0;
  std::array<std::int64_t, N> step{};  ///< between elements of a line
  Walk<N> others;                      ///< over the lines
  bool columns = false;                ///< gather the lines side by side
  std::int64_t block = 1;              ///< most neighbouring lines handed out at once

  /// Between neighbouring lines.
  [[nodiscard]] std::int64_t line_step(int view) const { return others.inner_stride(view); }
};

template <int N>
Lines<N> make_lines(const std::array<const View*, N>& views, int dim) {
  Lines<N> lines;
  lines.length = views[0]->size(dim);
  std::array<View, N> rest;
  std::array<const View*, N> pointers;
  for (std::size_t v = 0; v < N; ++v) {
    lines.step[v] = views[v]->stride(dim);
    rest[v] = *views[v];
    rest[v].shape.erase(dim);
    rest[v].strides.erase(dim);
    pointers[v] = &rest[v];
  }
  lines.others = make_walk<N>(pointers);
  const std::int64_t neighbours = lines.others.inner();
  const std::int64_t length = std::max<std::int64_t>(lines.length, 1);
  lines.columns = neighbours >= 4 && (lines.step[0] != 1 || length < 16);
  // Columns: a block shall stay in the second-level cache. Rows: enough of them to make a task.
  lines.block = lines.columns ? std::clamp<std::int64_t>(65536 / length, 16, kMostColumns)
                              : std::clamp<std::int64_t>(1024 / length, 1, 64);
  lines.block = std::min(lines.block, std::max<std::int64_t>(neighbours, 1));
  return lines;
}

/// Line by line: to[l * length + i] = element i of line l. As columns: to[i * lines + l].
template <class C, class T, int N>
void gather_lines(const Lines<N>& lines, int view, C* to, const T* from, std::int64_t count) {
  const std::int64_t step = lines.step[static_cast<std::size_t>(view)];
  const std::int64_t line_step = lines.line_step(view);
  const std::int64_t n = lines.length;
  if (lines.columns) {
    for (std::int64_t i = 0; i < n; ++i) load_stage(to + i * count, from + i * step, line_step, count);
  } else {
    for (std::int64_t l = 0; l < count; ++l) load_stage(to + l * n, from + l * line_step, step, n);
  }
}

/// The inverse of gather_lines().
template <class T, class C, int N>
void scatter_lines(const Lines<N>& lines, int view, T* to, const C* from, std::int64_t count) {
  const std::int64_t step = lines.step[static_cast<std::size_t>(view)];
  const std::int64_t line_step = lines.line_step(view);
  const std::int64_t n = lines.length;
  if (lines.columns) {
    for (std::int64_t i = 0; i < n; ++i) store_stage(to + i * step, line_step, from + i * count, count);
  } else {
    for (std::int64_t l = 0; l < count; ++l) store_stage(to + l * line_step, step, from + l * n, n);
  }
}

/// Calls f(offsets, lines, scratch) for blocks of neighbouring lines, in parallel; `scratch` holds `buffers` blocks of
/// lines. `cost` is the work per element. f must not throw.
template <class C, int N, class F>
void for_each_line_block(const Lines<N>& lines, int buffers, std::int64_t cost, F&& f) {
  const std::int64_t inner = lines.others.inner();
  const std::int64_t blocks_per_row = (inner + lines.block - 1) / lines.block;
  const std::int64_t tasks = blocks_per_row * lines.others.rows();
  if (tasks == 0 || inner == 0) return;
  const std::int64_t task_work = std::max<std::int64_t>(lines.length, 1) * lines.block * cost;
  const int threads = threads_for(tasks, std::max<std::int64_t>(kGrain / task_work, 1));
  const std::int64_t scratch_size = lines.block * lines.length * buffers;
  const auto scratch = std::make_unique_for_overwrite<C[]>(static_cast<std::size_t>(scratch_size * threads));
  team(threads, [&](int thread, int count) {
    const std::int64_t end = tasks * (thread + 1) / count;
    for (std::int64_t t = tasks * thread / count; t < end; ++t) {
      auto offsets = row_offsets(lines.others, t / blocks_per_row);
      const std::int64_t first = t % blocks_per_row * lines.block;
      for (int v = 0; v < N; ++v) offsets[static_cast<std::size_t>(v)] += first * lines.line_step(v);
      f(offsets, std::min(lines.block, inner - first), scratch.get() + thread * scratch_size);
    }
  });
}

}  // namespace trinix::cpu
