#include <array>
#include <utility>

#include <trinix/backends/cpu/gemm/problem.h>
#include <trinix/backends/cpu/parallel.h>

// Products with few rows, as in generating one token at a time. They are bound by the one pass over B, so B is read
// where it lies: by wide register tiles when its columns are adjacent, as dot products when its rows are (a weight
// stored as (out, in)).

namespace trinix::cpu::internal {

namespace {

constexpr std::int64_t kDotRows = 4;
constexpr int kTileRows = Tile::rows < 8 ? Tile::rows : 8;  // with more, a packed B is as fast
constexpr int kRegisters = kVectorBytes == 64 ? 32 : 16;

/// Vectors of a tile with few rows: the wider, the longer the runs of B that are read from each of its rows.
constexpr int wide_vecs(int rows) {
  for (const int vecs : {8, 6, 4, 3}) {
    if (rows * vecs + vecs + 1 <= kRegisters) return vecs;
  }
  return 2;
}

template <class T, class TB>
Microkernel<T, TB> wide_kernel_for(int rows) {
  static constexpr auto table = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<Microkernel<T, TB>, sizeof...(R)>{microkernel<T, TB, R + 1, wide_vecs(R + 1)>...};
  }
  (std::make_integer_sequence<int, kTileRows>{});
  return table[rows - 1];
}

/// Rows x Cols dot products along adjacent elements; sums go to tile[row * Cols + col].
template <class T, class TB, int Rows, int Cols>
void dot_tile(std::int64_t depth, const T* a, std::int64_t a_row, const TB* b, std::int64_t b_col, T* tile) {
  constexpr int width = kWidth<T>;
  Vec<T> acc[Rows][Cols];
  unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    unrolled<Cols>([&](auto j) __attribute__((always_inline)) { acc[i][j] = Vec<T>{}; });
  });
  std::int64_t p = 0;
  for (; p + width <= depth; p += width) {
    Vec<T> rows[Rows];
    unrolled<Rows>([&](auto i) __attribute__((always_inline)) { rows[i] = load(a + i * a_row + p); });
    unrolled<Cols>([&](auto j) __attribute__((always_inline)) {
      const Vec<T> col = load_as(b + j * b_col + p, T{});
      unrolled<Rows>([&](auto i) __attribute__((always_inline)) { acc[i][j] = acc[i][j] + rows[i] * col; });
    });
  }
  unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    unrolled<Cols>([&](auto j) __attribute__((always_inline)) { tile[i * Cols + j] = horizontal_sum<T>(acc[i][j]); });
  });
  for (; p < depth; ++p) {
    for (int i = 0; i < Rows; ++i) {
      for (int j = 0; j < Cols; ++j) tile[i * Cols + j] += a[i * a_row + p] * static_cast<T>(b[j * b_col + p]);
    }
  }
}

template <class T, class TB, int Rows>
void dot_columns(const Problem<T>& p, const T* a, std::int64_t a_row, std::int64_t begin, std::int64_t end) {
  constexpr int cols = Rows == 1 ? 8 : 4;
  alignas(kVectorBytes) T tile[Rows * cols];
  const TB* b = static_cast<const TB*>(p.b.data);
  std::int64_t j = begin;
  for (; j + cols <= end; j += cols) {
    dot_tile<T, TB, Rows, cols>(p.k, a, a_row, b + j * p.b.lane_stride, p.b.lane_stride, tile);
    write_tile(p, tile, cols, 0, j, Rows, cols, true);
  }
  for (; j < end; ++j) {
    dot_tile<T, TB, Rows, 1>(p.k, a, a_row, b + j * p.b.lane_stride, p.b.lane_stride, tile);
    write_tile(p, tile, 1, 0, j, Rows, 1, true);
  }
}

/// Columns [begin, end) with tiles that read B in place; `a` is packed, p.m rows side by side. `scratch` holds a packed
/// panel for the columns that do not fill a tile.
template <class T, class TB>
void tile_columns(const Problem<T>& p, const T* a, std::int64_t begin, std::int64_t end, T* scratch) {
  constexpr std::int64_t width = kWidth<T>;
  constexpr std::int64_t panel = kTileColumns<T>;
  const int rows = static_cast<int>(p.m);
  const std::int64_t wide = wide_vecs(rows) * width;
  alignas(kVectorBytes) T tile[kTileRows * 8 * width];
  const TB* b = static_cast<const TB*>(p.b.data);
  for (std::int64_t j = begin; j < end;) {
    const std::int64_t cols = end - j >= wide ? wide : std::min(panel, end - j);
    const int vecs = static_cast<int>(ceil_div(cols, width));
    TileOutput<T> out{tile, vecs * width};
    const bool direct = p.stores_directly() && cols == vecs * width;
    if (direct) {
      out = {static_cast<T*>(p.c.data) + j, p.c.row, p.alpha, p.accumulate,
             p.bias != nullptr ? static_cast<const T*>(p.bias) + j : nullptr};
    }
    if (cols == wide) {
      wide_kernel_for<T, TB>(rows)(p.k, a, p.m, b + j, p.b.depth_stride, out);
    } else {
      pack_panel_for<T>(p.b.dtype)(p.b, j, cols, p.n, 0, p.k, panel, scratch);
      microkernel_for<T>(rows, vecs)(p.k, a, p.m, scratch, panel, out);
    }
    if (!direct) write_tile(p, tile, out.c_step, 0, j, p.m, cols, true);
    j += cols;
  }
}

/// Elements of the packed copy of A, which all threads share.
template <class T>
std::int64_t copy_of_a(const Problem<T>& p) {
  return round_up(p.m * p.k + kPanelSlack<T>, 64);
}
/// Elements of a thread's scratch panel.
template <class T>
std::int64_t tail_panel(const Problem<T>& p) {
  return round_up(p.k * kTileColumns<T> + kPanelSlack<T>, 64);
}

template <class T>
bool by_dots(const Problem<T>& p) {
  return p.b.depth_stride == 1 && p.b.lane_stride != 1;
}

template <class T, class TB>
void thin_of(const Problem<T>& p, int threads, T* workspace) {
  const T* a = workspace;
  std::int64_t a_row = p.k;
  if (!by_dots(p)) {
    pack_panel_for<T>(p.a.dtype)(p.a, 0, p.m, p.m, 0, p.k, p.m, workspace);
  } else if (p.a.depth_stride == 1 && p.a.dtype == dtype_of<T>) {
    a = static_cast<const T*>(p.a.data);
    a_row = p.a.lane_stride;
  } else {
    // Rows of A made adjacent: packing with the roles of lanes and depth exchanged, one "lane" at a time.
    for (std::int64_t i = 0; i < p.m; ++i) {
      pack_panel_for<T>(p.a.dtype)(p.a, i, 1, 1, 0, p.k, 1, workspace + i * p.k);
    }
  }
  // Whole cache lines of C per thread.
  const std::int64_t unit = by_dots(p) ? 16 : 8 * kWidth<T>;
  const std::int64_t units = ceil_div(p.n, unit);
  team(static_cast<int>(std::min<std::int64_t>(threads, units)), [&](int t, int count) {
    const std::int64_t begin = units * t / count * unit;
    const std::int64_t end = std::min(p.n, units * (t + 1) / count * unit);
    if (begin >= end) return;
    if (!by_dots(p)) return tile_columns<T, TB>(p, a, begin, end, workspace + copy_of_a(p) + t * tail_panel(p));
    switch (p.m) {
      case 1:
        return dot_columns<T, TB, 1>(p, a, a_row, begin, end);
      case 2:
        return dot_columns<T, TB, 2>(p, a, a_row, begin, end);
      case 3:
        return dot_columns<T, TB, 3>(p, a, a_row, begin, end);
      default:
        return dot_columns<T, TB, 4>(p, a, a_row, begin, end);
    }
  });
}

}  // namespace

bool thin_suits(const Problem<float>& p) {
  if (p.packed_b.defined()) return false;
  if (by_dots(p)) return p.m <= kDotRows;
  return p.b.lane_stride == 1 && p.m <= kTileRows;
}

std::int64_t thin_workspace(const Problem<float>& p, int threads) { return copy_of_a(p) + threads * tail_panel(p); }

void thin(const Problem<float>& p, int threads, float* workspace) {
  switch (p.b.dtype) {
    case DType::bf16:
      return thin_of<float, bfloat16>(p, threads, workspace);
    case DType::f16:
      return thin_of<float, float16>(p, threads, workspace);
    default:
      return thin_of<float, float>(p, threads, workspace);
  }
}

}  // namespace trinix::cpu::internal
