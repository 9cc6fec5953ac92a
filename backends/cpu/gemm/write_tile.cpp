#include <trinix/backends/cpu/gemm/problem.h>

namespace trinix::cpu::internal {

namespace {

// Each step is a loop of its own that vectorises; tiles are small and stay in the first-level cache.
template <class T, class C>
void write_rows(const Problem<T>& p, T* tile, std::int64_t tile_step, std::int64_t row, std::int64_t col,
                std::int64_t rows, std::int64_t cols, bool first) {
  const C* bias = first ? static_cast<const C*>(p.bias) : nullptr;
  const bool accumulate = !first || p.accumulate;
  for (std::int64_t i = 0; i < rows; ++i, tile += tile_step) {
    C* c = static_cast<C*>(p.c.data) + (row + i) * p.c.row + col * p.c.col;
    const std::int64_t step = p.c.col;
    if (p.alpha != T{1}) {
      for (std::int64_t j = 0; j < cols; ++j) tile[j] *= p.alpha;
    }
    if (bias != nullptr && p.bias_by_row) {
      const T value = static_cast<T>(bias[row + i]);
      for (std::int64_t j = 0; j < cols; ++j) tile[j] += value;
    } else if (bias != nullptr) {
      for (std::int64_t j = 0; j < cols; ++j) tile[j] += static_cast<T>(bias[col + j]);
    }
    if (step == 1) {
      if (accumulate) {
        for (std::int64_t j = 0; j < cols; ++j) tile[j] += static_cast<T>(c[j]);
      }
      for (std::int64_t j = 0; j < cols; ++j) c[j] = static_cast<C>(tile[j]);
    } else {
      for (std::int64_t j = 0; j < cols; ++j) {
        c[j * step] = static_cast<C>(accumulate ? tile[j] + static_cast<T>(c[j * step]) : tile[j]);
      }
    }
  }
}

}  // namespace

template <>
void write_tile(const Problem<double>& p, double* tile, std::int64_t tile_step, std::int64_t row, std::int64_t col,
                std::int64_t rows, std::int64_t cols, bool first) {
  write_rows<double, double>(p, tile, tile_step, row, col, rows, cols, first);
}

template <>
void write_tile(const Problem<float>& p, float* tile, std::int64_t tile_step, std::int64_t row, std::int64_t col,
                std::int64_t rows, std::int64_t cols, bool first) {
  switch (p.c.dtype) {
    case DType::bf16:
      return write_rows<float, bfloat16>(p, tile, tile_step, row, col, rows, cols, first);
    case DType::f16:
      return write_rows<float, float16>(p, tile, tile_step, row, col, rows, cols, first);
    default:
      return write_rows<float, float>(p, tile, tile_step, row, col, rows, cols, first);
  }
}

}  // namespace trinix::cpu::internal
