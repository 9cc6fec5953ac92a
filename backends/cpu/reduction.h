#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>

#include <trinix/backends/cpu/parallel.h>
#include <trinix/backends/cpu/staging.h>
#include <trinix/core/view.h>

/// @file
/// The engine under Reduce and Variance. It takes x of any strides and any set of reduced dims and brings it to one of
/// two forms: rows (the elements of one output lie along the innermost dim) or columns (neighbouring outputs do). Both
/// vectorise. Sums are formed in three levels: lanes of a block in the compute type, blocks in the wide type, splits of
/// a long reduction in the wide type. The levels depend on the geometry alone, so the result does not depend on the
/// number of threads.

namespace trinix::cpu {

/// One dim of x after merging; `out_stride` is 0 in reduced ones.
struct Axis {
  std::int64_t size;
  std::int64_t x_stride;
  std::int64_t out_stride;
};

/// Dims sorted by falling stride and merged where they are contiguous. The last is the innermost.
struct Axes {
  std::array<Axis, kMaxRank> list{};
  int count = 0;

  [[nodiscard]] const Axis& inner() const { return list[static_cast<std::size_t>(count - 1)]; }
  [[nodiscard]] std::int64_t size() const;
  /// Offset in x of element `index` counted over all axes but the last `skip`.
  [[nodiscard]] std::int64_t x_offset(std::int64_t index, int skip) const;
  [[nodiscard]] std::int64_t out_offset(std::int64_t index, int skip) const;
};

/// Outputs are numbered in row-major order of the kept axes.
struct ReducePlan {
  Axes kept;     ///< at least one axis
  Axes reduced;  ///< at least one axis
  bool columns = false;
  int splits = 1;  ///< parts of each output's reduction that are computed on their own

  [[nodiscard]] std::int64_t outputs() const { return kept.size(); }
  [[nodiscard]] std::int64_t count() const { return reduced.size(); }
};

/// Dims of `x` that have size 1 in `out` are reduced. x must not be empty.
[[nodiscard]] ReducePlan make_reduce_plan(const View& x, const View& out);

/// Writes consecutive outputs from number `begin` on, converted to out's dtype; adds to them if `accumulate`.
template <class W>
void store_outputs(const ReducePlan& plan, const View& out, std::int64_t begin, const W* values, std::int64_t n,
                   bool accumulate = false);

/// Reads `n` elements of compute type C from a view of any dtype.
template <class C>
using Loader = const C* (*)(const void* data, std::int64_t offset, std::int64_t stride, std::int64_t n, C* buffer);

/// Receives finished outputs [begin, begin + n), in the wide type, from several threads. It may change the values.
template <class W>
struct Emit {
  const void* context;
  void (*call)(const void* context, std::int64_t begin, W* values, std::int64_t n);

  template <class F>
  static Emit to(const F& f) {
    return {&f, [](const void* c, std::int64_t begin, W* values, std::int64_t n) {
              (*static_cast<const F*>(c))(begin, values, n);
            }};
  }
};

// What is reduced: identity(), map(x, shift) of each element, join(a, b) of two partial results. ----------------------

struct JoinBySum {
  static constexpr int kCost = 1;
  template <class C>
  static C identity() {
    return 0;
  }
  template <class C>
  static C join(C a, C b) {
    if constexpr (std::is_integral_v<C>) {  // wraps
      return static_cast<C>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
    } else {
      return a + b;
    }
  }
};

struct Sum : JoinBySum {
  template <class C>
  static C map(C x, C) {
    return x;
  }
};

/// sum of (x - shift)^2
struct SumSquares : JoinBySum {
  template <class C>
  static C map(C x, C shift) {
    return (x - shift) * (x - shift);
  }
};

/// Maximum and minimum keep a NaN once they have seen one. Two plain selections vectorise, one with a compound
/// condition does not.
struct Max {
  static constexpr int kCost = 1;
  template <class C>
  static C identity() {
    return std::is_floating_point_v<C> ? -std::numeric_limits<C>::infinity() : std::numeric_limits<C>::lowest();
  }
  template <class C>
  static C map(C x, C) {
    return x;
  }
  template <class C>
  static C join(C a, C b) {
    const C larger = b > a ? b : a;
    return b != b ? b : larger;
  }
};

struct Min {
  static constexpr int kCost = 1;
  template <class C>
  static C identity() {
    return std::is_floating_point_v<C> ? std::numeric_limits<C>::infinity() : std::numeric_limits<C>::max();
  }
  template <class C>
  static C map(C x, C) {
    return x;
  }
  template <class C>
  static C join(C a, C b) {
    const C smaller = b < a ? b : a;
    return b != b ? b : smaller;
  }
};

/// Reduces contiguous elements in lanes of the compute type, which are joined pairwise at the end.
template <class K, class C>
C reduce_row(const C* x, std::int64_t n, C shift) {
  constexpr int kLanes = 256 / sizeof(C);
  C lanes[kLanes];
  for (int l = 0; l < kLanes; ++l) lanes[l] = K::template identity<C>();
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) lanes[l] = K::join(lanes[l], K::map(x[i + l], shift));
  }
  const auto rest = static_cast<int>(n - i);
#pragma omp simd
  for (int l = 0; l < rest; ++l) lanes[l] = K::join(lanes[l], K::map(x[i + l], shift));
  for (int width = kLanes / 2; width > 0; width /= 2) {
#pragma omp simd
    for (int l = 0; l < width; ++l) lanes[l] = K::join(lanes[l], lanes[l + width]);
  }
  return lanes[0];
}

namespace internal {

/// Elements of a row that are summed in lanes before they go into the wide type.
inline constexpr std::int64_t kRowBlock = 1024;
/// Columns that are reduced together.
inline constexpr std::int64_t kTile = 512;
/// Rows that are added up in the compute type before they go into the wide type.
inline constexpr std::int64_t kRowGroup = 32;

template <class K, class C>
void reduce_one(C* acc, const C* x, const C* shift, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) acc[i] = K::join(acc[i], K::map(x[i], shift[i]));
}

/// acc[i] = join(acc[i], four rows at i)
template <class K, class C>
void reduce_four(C* acc, const C* const* x, const C* shift, std::int64_t n) {
  const C *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const C a = K::join(K::map(x0[i], shift[i]), K::map(x1[i], shift[i]));
    const C b = K::join(K::map(x2[i], shift[i]), K::map(x3[i], shift[i]));
    acc[i] = K::join(acc[i], K::join(a, b));
  }
}

/// Part `split` of the reduction of one output.
template <class K, class C, class W>
W reduce_rows(const ReducePlan& plan, const void* data, Loader<C> load, std::int64_t output, int split, C shift) {
  const Axis& inner = plan.reduced.inner();
  const std::int64_t blocks_per_row = (inner.size + kRowBlock - 1) / kRowBlock;
  const std::int64_t blocks = blocks_per_row * (plan.count() / inner.size);
  const std::int64_t base = plan.kept.x_offset(output, 0);
  const std::int64_t begin = blocks * split / plan.splits;
  const std::int64_t end = blocks * (split + 1) / plan.splits;
  C buffer[kRowBlock];
  W total = K::template identity<W>();
  for (std::int64_t b = begin; b < end; ++b) {
    const std::int64_t row = b / blocks_per_row;
    const std::int64_t first = (b - row * blocks_per_row) * kRowBlock;
    const std::int64_t n = std::min(kRowBlock, inner.size - first);
    const std::int64_t offset = base + plan.reduced.x_offset(row, 1) + first * inner.x_stride;
    total = K::join(total, static_cast<W>(reduce_row<K, C>(load(data, offset, inner.x_stride, n, buffer), n, shift)));
  }
  return total;
}

/// Part `split` of the reduction of the `n` outputs from number `output` on, which lie in one row of the kept axes.
template <class K, class C, class W>
void reduce_columns(const ReducePlan& plan, const void* data, Loader<C> load, std::int64_t output, std::int64_t n,
                    int split, const C* shift, W* totals) {
  const std::int64_t stride = plan.kept.inner().x_stride;
  const std::int64_t base = plan.kept.x_offset(output, 0);
  const std::int64_t rows = plan.count();
  const std::int64_t end = rows * (split + 1) / plan.splits;
  C buffers[4][kTile];
  C acc[kTile];
  std::fill(totals, totals + n, K::template identity<W>());
  for (std::int64_t r = rows * split / plan.splits; r < end;) {
    const std::int64_t stop = std::min(end, r + kRowGroup);
    std::fill(acc, acc + n, K::template identity<C>());
    for (; r + 4 <= stop; r += 4) {
      const C* x[4];
      for (int i = 0; i < 4; ++i) x[i] = load(data, base + plan.reduced.x_offset(r + i, 0), stride, n, buffers[i]);
      reduce_four<K, C>(acc, x, shift, n);
    }
    for (; r < stop; ++r) {
      reduce_one<K, C>(acc, load(data, base + plan.reduced.x_offset(r, 0), stride, n, buffers[0]), shift, n);
    }
    for (std::int64_t i = 0; i < n; ++i) totals[i] = K::join(totals[i], static_cast<W>(acc[i]));
  }
}

/// The outputs [begin, begin + n) for one split. In the column form they lie within one row of the kept axes.
template <class K, class C, class W>
void reduce_outputs(const ReducePlan& plan, const void* data, Loader<C> load, const W* shift, std::int64_t begin,
                    std::int64_t n, int split, W* totals) {
  C shifts[kTile];
  for (std::int64_t i = 0; i < n; ++i) shifts[i] = shift == nullptr ? C(0) : static_cast<C>(shift[begin + i]);
  if (plan.columns) return reduce_columns<K, C, W>(plan, data, load, begin, n, split, shifts, totals);
  for (std::int64_t i = 0; i < n; ++i) {
    totals[i] = reduce_rows<K, C, W>(plan, data, load, begin + i, split, shifts[i]);
  }
}

}  // namespace internal

/// Reduces by K in compute type C, with partial results in W. `shift`, one value per output, is handed to K::map.
template <class K, class C, class W>
void reduce(const ReducePlan& plan, const void* data, Loader<C> load, const W* shift, Emit<W> emit) {
  const std::int64_t outputs = plan.outputs();
  const std::int64_t row = plan.columns ? plan.kept.inner().size : outputs;
  const std::int64_t tile = plan.columns ? internal::kTile : std::int64_t{16};
  const std::int64_t tiles_per_row = (row + tile - 1) / tile;
  const std::int64_t tiles = tiles_per_row * (outputs / row);
  const std::int64_t tile_work = plan.count() * std::min(row, tile) * K::kCost / plan.splits;
  const std::int64_t grain = std::max<std::int64_t>(kGrain / std::max<std::int64_t>(tile_work, 1), 1);
  const auto range_of = [&](std::int64_t t) {
    const std::int64_t first = t % tiles_per_row * tile;
    return std::pair{t / tiles_per_row * row + first, std::min(tile, row - first)};
  };
  if (plan.splits == 1) {
    parallel_for(tiles, grain, [&](std::int64_t t, std::int64_t end) {
      W totals[internal::kTile];
      for (; t < end; ++t) {
        const auto [begin, n] = range_of(t);
        internal::reduce_outputs<K, C, W>(plan, data, load, shift, begin, n, 0, totals);
        emit.call(emit.context, begin, totals, n);
      }
    });
    return;
  }
  const auto partial = std::make_unique_for_overwrite<W[]>(static_cast<std::size_t>(outputs * plan.splits));
  parallel_for(tiles * plan.splits, grain, [&](std::int64_t task, std::int64_t end) {
    for (; task < end; ++task) {
      const auto split = static_cast<int>(task % plan.splits);
      const auto [begin, n] = range_of(task / plan.splits);
      internal::reduce_outputs<K, C, W>(plan, data, load, shift, begin, n, split, &partial[split * outputs + begin]);
    }
  });
  for (int s = 1; s < plan.splits; ++s) {
    for (std::int64_t i = 0; i < outputs; ++i) partial[i] = K::join(partial[i], partial[s * outputs + i]);
  }
  emit.call(emit.context, 0, partial.get(), outputs);
}

}  // namespace trinix::cpu
