#pragma once

#include <trinix/backends/cpu/attention/lanes.h>
#include <trinix/backends/cpu/gemm/address.h>
#include <trinix/backends/cpu/gemm/problem.h>
#include <trinix/core/view.h>

/// @file
/// Small matrix products on packed operands that lie in the cache, built from the register tile of the matrix engine.

namespace trinix::cpu::internal {

/// c = alpha a b (+ c). a is stored depth by depth: element (i, p) at a[i / tile_rows * a_panel + p * a_step + i %
/// tile_rows]. So is b, in panels of kTileColumns columns: (p, j) at b[j / kTileColumns * b_panel + p * b_step + j %
/// kTileColumns]. Columns are written by whole vectors.
struct TileProduct {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t tile_rows = 0;
  const float* a = nullptr;
  std::int64_t a_step = 0;
  std::int64_t a_panel = 0;
  const float* b = nullptr;
  std::int64_t b_step = 0;
  std::int64_t b_panel = kTileColumns<float>;
  float* c = nullptr;
  std::int64_t c_step = 0;
  float alpha = 1;
  bool accumulate = false;
};

/// Steps [begin, end) of the depth; a tile with begin > end is left as it is.
struct Steps {
  std::int64_t begin;
  std::int64_t end;
};

/// steps(row, rows, col, cols) tells how much of the depth matters to a tile.
template <class F>
void multiply(const TileProduct& p, F&& steps) {
  constexpr std::int64_t width = kTileColumns<float>;
  for (std::int64_t col = 0; col < p.cols; col += width) {
    const std::int64_t cols = std::min(width, p.cols - col);
    const int vecs = static_cast<int>(ceil_div(cols, kLanes));
    const float* b = p.b + col / width * p.b_panel;
    const float* a = p.a;
    for (std::int64_t row = 0; row < p.rows; row += p.tile_rows, a += p.a_panel) {
      const std::int64_t rows = std::min(p.tile_rows, p.rows - row);
      const Steps s = steps(row, rows, col, cols);
      if (s.begin > s.end) continue;
      microkernel_for<float>(static_cast<int>(rows), vecs)(
          s.end - s.begin, a + s.begin * p.a_step, p.a_step, b + s.begin * p.b_step, p.b_step,
          {p.c + row * p.c_step + col, p.c_step, p.alpha, p.accumulate, nullptr});
    }
  }
}

/// One head of a (B, S, H, D) operand: rows are positions.
struct HeadRows {
  const void* data;
  DType dtype;
  std::int64_t row;  ///< elements between positions
  std::int64_t col;  ///< elements between components
};
/// From position `first` on.
inline HeadRows head_of(const View& v, std::int64_t b, std::int64_t h, std::int64_t first = 0) {
  return {advance(v.data, b * v.strides[0] + first * v.strides[1] + h * v.strides[2], v.dtype), v.dtype, v.strides[1],
          v.strides[3]};
}

/// Positions [first, first + count) as panels of `width` positions stored component by component, zero beyond `count`;
/// `out` has room for kPanelSlack<float> more elements.
inline void pack_positions(const HeadRows& head, std::int64_t first, std::int64_t count, std::int64_t total,
                           std::int64_t depth, std::int64_t width, float* out) {
  const PackSource source{head.data, head.dtype, head.row, head.col};
  const PackPanel<float> pack = pack_panel_for<float>(head.dtype);
  for (std::int64_t at = 0; at < count; at += width) {
    pack(source, first + at, std::min(width, count - at), total, 0, depth, width, out + at * depth);
  }
}

/// Positions [first, first + count) one after another, each padded with zeros to `padded` components.
inline void pack_components(const HeadRows& head, std::int64_t first, std::int64_t count, std::int64_t depth,
                            std::int64_t padded, float* out) {
  const PackSource source{head.data, head.dtype, head.col, head.row};
  pack_panel_for<float>(head.dtype)(source, 0, depth, depth, first, count, padded, out);
}

/// Writes one position of a (B, S, H, D) result, times `factor`.
template <class T>
void store_position(const View& v, std::int64_t b, std::int64_t s, std::int64_t h, const float* from, float factor) {
  T* to = v.as<T>() + b * v.strides[0] + s * v.strides[1] + h * v.strides[2];
  const std::int64_t n = v.shape[3];
  const std::int64_t step = v.strides[3];
  if (step == 1) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) to[i] = T(from[i] * factor);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * step] = T(from[i] * factor);
  }
}

/// The same for a dtype known at run time.
inline void store_position(const View& v, std::int64_t b, std::int64_t s, std::int64_t h, const float* from,
                           float factor) {
  switch (v.dtype) {
    case DType::f32:
      return store_position<float>(v, b, s, h, from, factor);
    case DType::bf16:
      return store_position<bfloat16>(v, b, s, h, from, factor);
    default:
      return store_position<float16>(v, b, s, h, from, factor);
  }
}

}  // namespace trinix::cpu::internal
