#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <trinix/backends/cpu/gemm/address.h>
#include <trinix/backends/cpu/gemm/gemm.h>
#include <trinix/backends/cpu/gemm/microkernel.h>
#include <trinix/backends/cpu/gemm/pack.h>

/// @file
/// A product as the loop nests see it: checked, typed by what it is computed in, and turned the better way round.

namespace trinix::cpu::internal {

/// Computes in T: float or double.
template <class T>
struct Problem {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  PackSource a;  ///< lanes are rows
  PackSource b;  ///< lanes are columns
  PackedMatrix packed_b;
  GemmResult c;
  T alpha = 1;
  bool accumulate = false;
  const void* bias = nullptr;
  bool bias_by_row = false;  ///< one bias per row of C rather than per column

  /// Whether tiles can be stored into C as they are.
  [[nodiscard]] bool stores_directly() const {
    return c.col == 1 && c.dtype == (std::is_same_v<T, double> ? DType::f64 : DType::f32) && !bias_by_row;
  }
  [[nodiscard]] double flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * k; }
  /// The part of it that makes columns [begin, end) of C; begin is a multiple of the tile's columns.
  [[nodiscard]] Problem columns(std::int64_t begin, std::int64_t end) const {
    Problem part = *this;
    part.n = end - begin;
    if (packed_b.defined()) part.packed_b = packed_b.block(0, k, begin, end - begin);
    part.b.data = advance(b.data, begin * b.lane_stride, b.dtype);
    part.c.data = advance(c.data, begin * c.col, c.dtype);
    if (bias != nullptr && !bias_by_row) part.bias = advance(bias, begin, c.dtype);
    return part;
  }
};

[[nodiscard]] constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
[[nodiscard]] constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

/// Rows of the tiles of a product with m rows: panels of equal height, so that 16 rows are 8 + 8 and not 14 + 2.
[[nodiscard]] constexpr std::int64_t balanced_tile_rows(std::int64_t m) {
  return std::max<std::int64_t>(1, ceil_div(m, std::max<std::int64_t>(1, ceil_div(m, Tile::rows))));
}

/// Brings `rows` x `cols` sums to their place: C[row.., col..] = alpha * tile + bias (+ C). `first` is false when C
/// already holds a part of the sum, which then is added to whatever p.accumulate says, and the bias is in it. Spoils
/// the tile.
template <class T>
void write_tile(const Problem<T>& p, T* tile, std::int64_t tile_step, std::int64_t row, std::int64_t col,
                std::int64_t rows, std::int64_t cols, bool first);

/// Products with few rows, for which packing B would cost more than it gains: B is read where it lies. False when the
/// shape or the strides do not suit. Text is generated with such products; in f64 they are like any other.
[[nodiscard]] bool thin_suits(const Problem<float>& p);
/// Floats of workspace that thin() needs on `threads` threads.
[[nodiscard]] std::int64_t thin_workspace(const Problem<float>& p, int threads);
void thin(const Problem<float>& p, int threads, float* workspace);

template <>
void write_tile(const Problem<float>& p, float* tile, std::int64_t tile_step, std::int64_t row, std::int64_t col,
                std::int64_t rows, std::int64_t cols, bool first);
template <>
void write_tile(const Problem<double>& p, double* tile, std::int64_t tile_step, std::int64_t row, std::int64_t col,
                std::int64_t rows, std::int64_t cols, bool first);

}  // namespace trinix::cpu::internal
