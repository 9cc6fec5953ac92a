#pragma once

#include <cstdint>

#include <trinix/backends/cpu/gemm/simd.h>

/// @file
/// The register tile of the matrix product: Rows x (Vecs * vector width) accumulators that stay in registers while the
/// depth is walked; per step Vecs vectors of B are loaded and Rows elements of A are broadcast from memory.
/// After Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).

namespace trinix::cpu::internal {

/// Largest tile of the target. The accumulators, the vectors of B and one broadcast must fit the register file: 32
/// registers with AVX-512 and on AArch64, 16 otherwise. Without fused multiply-add one register more is needed.
struct Tile {
#if defined(__AVX512F__)
  static constexpr int rows = 14;
#elif defined(__FMA__)
  static constexpr int rows = 6;
#elif defined(__aarch64__)
  static constexpr int rows = 12;
#else
  static constexpr int rows = 4;
#endif
  static constexpr int vecs = 2;
};
/// Columns of a full tile.
template <class T>
inline constexpr int kTileColumns = Tile::vecs* kWidth<T>;

/// Where a tile goes: c = alpha * tile + bias (+ c). Columns of c are adjacent.
template <class T>
struct TileOutput {
  T* c = nullptr;
  std::int64_t c_step = 0;  ///< elements between rows
  T alpha = 1;
  bool accumulate = false;
  const T* bias = nullptr;  ///< one value per column, or null
};

/// One tile. `a` holds the tile's rows of A side by side for each step of the depth, a_step elements apart; `b` the
/// columns of B, b_step elements apart, in storage type TB. Rows and whole vectors beyond the tile are not touched.
template <class T, class TB, int Rows, int Vecs>
void microkernel(std::int64_t depth, const T* a, std::int64_t a_step, const TB* b, std::int64_t b_step,
                 const TileOutput<T>& out) {
  constexpr int width = kWidth<T>;
  Vec<T> acc[Rows][Vecs];
  // The tile of C comes from far away and is needed only at the end.
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < Vecs; ++j) __builtin_prefetch(out.c + i * out.c_step + j * width, 1);
  }
  unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    unrolled<Vecs>([&](auto j) __attribute__((always_inline)) { acc[i][j] = Vec<T>{}; });
  });
  for (std::int64_t p = 0; p < depth; ++p) {
    Vec<T> columns[Vecs];
    unrolled<Vecs>([&](auto j) __attribute__((always_inline)) { columns[j] = load_as(b + j * width, T{}); });
    unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
      const Vec<T> row = broadcast(a[i]);
      unrolled<Vecs>([&](auto j) __attribute__((always_inline)) { acc[i][j] = acc[i][j] + row * columns[j]; });
    });
    a += a_step;
    b += b_step;
  }
  Vec<T> bias[Vecs];
  unrolled<Vecs>([&](auto j) __attribute__((always_inline)) {
    bias[j] = out.bias != nullptr ? load(out.bias + j * width) : Vec<T>{};
  });
  if (out.accumulate) {
    unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
      T* c = out.c + i * out.c_step;
      unrolled<Vecs>([&](auto j) __attribute__((always_inline)) {
        store(c + j * width, acc[i][j] * out.alpha + (load(c + j * width) + bias[j]));
      });
    });
  } else {
    unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
      T* c = out.c + i * out.c_step;
      unrolled<Vecs>([&](auto j)
                         __attribute__((always_inline)) { store(c + j * width, acc[i][j] * out.alpha + bias[j]); });
    });
  }
}

template <class T, class TB = T>
using Microkernel = void (*)(std::int64_t, const T*, std::int64_t, const TB*, std::int64_t, const TileOutput<T>&);

/// The tile of `rows` (1 to Tile::rows) by one or two vectors: small edges do not pay for a full tile. T is float or
/// double; the tiles are compiled once, in microkernel.cpp.
template <class T>
[[nodiscard]] Microkernel<T> microkernel_for(int rows, int vecs);

}  // namespace trinix::cpu::internal
