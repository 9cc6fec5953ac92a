#pragma once

#include <array>
#include <cstdint>

#include <trinix/core/view.h>

/// @file
/// The geometry of several views of one shape that are walked together. Dims that can be merged are merged, so that
/// most work arrives as one long row.

namespace trinix {

/// The merged common geometry of N views. Dim rank-1 is the innermost. Strides in elements.
template <int N>
struct Walk {
  int rank = 1;
  std::array<std::int64_t, kMaxRank> shape{1};
  std::array<std::array<std::int64_t, kMaxRank>, N> strides{};

  [[nodiscard]] std::int64_t inner() const { return shape[static_cast<std::size_t>(rank - 1)]; }
  [[nodiscard]] std::int64_t rows() const {
    std::int64_t n = 1;
    for (int d = 0; d + 1 < rank; ++d) n *= shape[static_cast<std::size_t>(d)];
    return n;
  }
  [[nodiscard]] std::int64_t inner_stride(int view) const {
    return strides[static_cast<std::size_t>(view)][static_cast<std::size_t>(rank - 1)];
  }
};

/// Merges dims of views that share one shape: drops dims of size 1, and joins neighbours that are contiguous in all.
template <int N>
Walk<N> make_walk(const std::array<const View*, N>& views) {
  Walk<N> w;
  const Shape& shape = views[0]->shape;
  int out = -1;
  for (int d = 0; d < shape.size(); ++d) {
    if (shape[d] == 1) continue;
    bool join = out >= 0;
    for (int v = 0; join && v < N; ++v) {
      join = w.strides[v][static_cast<std::size_t>(out)] == shape[d] * views[v]->strides[d];
    }
    if (!join) ++out;
    const auto o = static_cast<std::size_t>(out);
    w.shape[o] = join ? w.shape[o] * shape[d] : shape[d];
    for (int v = 0; v < N; ++v) w.strides[v][o] = views[v]->strides[d];
  }
  if (out < 0) {
    out = 0;
    for (int v = 0; v < N; ++v) w.strides[v][0] = 1;  // one element: any stride will do
  }
  w.rank = out + 1;
  return w;
}

/// Element offset of row `row` in each view.
template <int N>
std::array<std::int64_t, N> row_offsets(const Walk<N>& w, std::int64_t row) {
  std::array<std::int64_t, N> offsets{};
  for (int d = w.rank - 2; d >= 0; --d) {
    const auto size = w.shape[static_cast<std::size_t>(d)];
    const std::int64_t i = row % size;
    row /= size;
    for (int v = 0; v < N; ++v) offsets[v] += i * w.strides[v][static_cast<std::size_t>(d)];
  }
  return offsets;
}

}  // namespace trinix
