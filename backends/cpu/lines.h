#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/cpu/staging.h>

/// @file
/// For ops that work along one dim, line by line. A kernel is written once, for a contiguous line of the compute type;
/// lines that lie otherwise (another dim, odd strides, 16-bit storage) are gathered into scratch memory in cache, a
/// few neighbours at a time, so that each cache line is touched once.

namespace trinix::cpu {

/// How the lines of N views of one shape lie along one dim. The first view is the one that decides.
template <int N>
struct Lines {
  std::int64_t length = 0;
  std::array<std::int64_t, N> step{};  ///< between elements of a line
  Walk<N> others;                      ///< over the lines
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
  const bool dense = lines.step[0] == 1;
  lines.block = dense ? std::clamp<std::int64_t>(1024 / std::max<std::int64_t>(lines.length, 1), 1, 64) : 16;
  lines.block = std::min(lines.block, std::max<std::int64_t>(lines.others.inner(), 1));
  return lines;
}

/// to[l * length + i] = the i-th element of line l.
template <class C, class T>
void gather_lines(C* to, const T* from, std::int64_t lines, std::int64_t length, std::int64_t line_step,
                  std::int64_t step) {
  if (lines == 1 || step == 1) {
    for (std::int64_t l = 0; l < lines; ++l) load_stage(to + l * length, from + l * line_step, step, length);
    return;
  }
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t l = 0; l < lines; ++l) to[l * length + i] = widen<C>(from[i * step + l * line_step]);
  }
}

/// The inverse of gather_lines().
template <class T, class C>
void scatter_lines(T* to, const C* from, std::int64_t lines, std::int64_t length, std::int64_t line_step,
                   std::int64_t step) {
  if (lines == 1 || step == 1) {
    for (std::int64_t l = 0; l < lines; ++l) store_stage(to + l * line_step, step, from + l * length, length);
    return;
  }
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t l = 0; l < lines; ++l) to[i * step + l * line_step] = narrow<T>(from[l * length + i]);
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
