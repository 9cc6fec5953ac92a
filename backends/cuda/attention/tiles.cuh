#pragma once

#include <trinix/backends/cuda/attention/attention.h>
#include <trinix/backends/cuda/device/mma.cuh>
#include <trinix/backends/cuda/device/random.cuh>
#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/core/ops/dropout.h>

/// @file
/// What the attention kernels share: order of the blocks, movement of tiles, lengths, who sees whom, who is dropped.

namespace trinix::cuda {

/// Order in which the blocks of a grid take (head, tile): all heads of a section take the same tile before any takes
/// the next, so that long tiles start first; a section holds as many heads as the L2 cache keeps.
struct BlockOrder {
  int tiles;
  int heads;  ///< in all batches
  int section;

  struct Place {
    int tile;
    int head;
  };

  [[nodiscard]] __device__ int items() const { return tiles * heads; }

  __device__ Place place(unsigned block) const {
    const unsigned per_section = static_cast<unsigned>(section) * static_cast<unsigned>(tiles);
    const int s = static_cast<int>(block / per_section);
    const int rest = static_cast<int>(block % per_section);
    const int in_section = min(section, heads - s * section);
    return {rest / in_section, s * section + rest % in_section};
  }
};

/// @param bytes of the operands that one head reads again and again.
inline BlockOrder block_order(int tiles, int heads, std::int64_t bytes) {
  constexpr std::int64_t kCache = std::int64_t{24} << 20;
  const std::int64_t fit = std::max<std::int64_t>(1, kCache / std::max<std::int64_t>(1, bytes));
  return {tiles, heads, static_cast<int>(std::min<std::int64_t>(heads, fit))};
}

template <class T>
__device__ const T* head_of(const HeadsView& v, int b, int h) {
  return static_cast<const T*>(v.data) + b * v.batch + h * v.head;
}

/// Starts to copy kRows rows to a tile; rows from `rows` on and chunks from `chunks` on become zeros.
template <int kRows, int kColumns, int kThreads, class T>
__device__ void copy_tile_async(std::uint32_t to, const T* from, std::int64_t row_stride, int rows, int chunks) {
  using Tile = SharedTile<kColumns>;
  constexpr int kChunks = Tile::kChunks;
  const int thread = static_cast<int>(kept_apart(threadIdx.x));
  if constexpr (kThreads % kChunks == 0 && kRows % (kThreads / kChunks) == 0) {
    constexpr int kStep = kThreads / kChunks;
    const int chunk = thread % kChunks;
    const int first = thread / kChunks;
    const T* source = from + first * row_stride + chunk * 8;
#pragma unroll
    for (int i = 0; i < kRows / kStep; ++i) {
      const bool there = first + i * kStep < rows && chunk < chunks;
      copy_async(to + Tile::offset(first + i * kStep, chunk), there ? source : from, there);
      source += kStep * row_stride;
    }
  } else {
#pragma unroll 4
    for (int i = thread; i < kRows * kChunks; i += kThreads) {
      const int row = i / kChunks;
      const int chunk = i % kChunks;
      const bool there = row < rows && chunk < chunks;
      copy_async(to + Tile::offset(row, chunk), there ? from + row * row_stride + chunk * 8 : from, there);
    }
  }
}

/// Rounds a warp's accumulators, 16 rows per m, scaled by `factors` (one per row of a lane), into rows [0, 16 kM) of
/// its part of a tile.
template <class T, class Tile, int kM, int kN>
__device__ void stage(char* tile, int first_row, const float (&acc)[kM][kN][4], const float (&factors)[kM][2]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + m * 16 + half * 8 + lane / 4;
      const float f = factors[m][half];
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        *reinterpret_cast<std::uint32_t*>(tile + Tile::offset(row, n) + lane % 4 * 4) =
            pack_pair<T>(acc[m][n][2 * half] * f, acc[m][n][2 * half + 1] * f);
      }
    }
  }
}

/// Stores rows [first_row, first_row + kRows) of a tile by the 32 lanes of a warp; `to` is row 0 of the tile, of which
/// `rows` exist.
template <class T, class Tile, int kRows>
__device__ void store_rows(const char* tile, int first_row, T* to, const HeadsView& view, int rows, int depth) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int i = lane; i < kRows * Tile::kChunks; i += kWarp) {
    const int row = first_row + i / Tile::kChunks;
    const int chunk = i % Tile::kChunks;
    if (row >= rows || chunk * 8 >= depth) continue;
    const auto values = *reinterpret_cast<const Vector<T, 8>*>(tile + Tile::offset(row, chunk));
    T* target = to + row * view.row + chunk * 8 * view.element;
    if (view.vectors) {
      store_vector(target, values);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        if (chunk * 8 + e < depth) target[e * view.element] = values.at[e];
      }
    }
  }
}

/// One sequence of the batch, for kernels that take lengths of their own.
struct Sequence {
  int queries;
  int keys;
  int first_offset;  ///< as in AttentionProblem
  int last_offset;
  int query_start;
  int key_start;

  __device__ Sequence(const AttentionProblem& p, int b)
      : queries(p.queries), keys(p.keys), query_start(0), key_start(0) {
    if (p.query_starts != nullptr) {
      query_start = p.query_starts[b];
      key_start = p.key_starts[b];
      queries = p.query_starts[b + 1] - query_start;
      keys = p.key_starts[b + 1] - key_start;
    }
    first_offset = keys - queries - p.reach_left;
    last_offset = keys - queries + p.reach_right;
  }
};

/// What the functions below know as `l`: the sequence in general, else the problem itself, which costs no registers.
template <AttentionMode kMode>
__device__ decltype(auto) lengths_of(const AttentionProblem& p, int b) {
  if constexpr (kMode == AttentionMode::general) {
    return Sequence(p, b);
  } else {
    return (p);
  }
}

/// Where head h of sequence b begins in an operand whose rows are queries, or in one whose rows are keys.
template <class T, class Lengths>
__device__ const T* queries_of(const HeadsView& v, const Lengths& l, int b, int h) {
  return head_of<T>(v, b, h) + l.query_start * v.row;
}
template <class T, class Lengths>
__device__ const T* keys_of(const HeadsView& v, const Lengths& l, int b, int h) {
  return head_of<T>(v, b, h) + l.key_start * v.row;
}

/// The first row of head h of sequence b in lse2, delta and dq_sum: a multiple of 128.
template <class Lengths>
__device__ std::int64_t padded_row(const AttentionBackwardTask& task, const Lengths& l, int b, int h) {
  if constexpr (std::is_same_v<Lengths, Sequence>) {
    if (task.problem.query_starts != nullptr) return h * task.padded_total + (l.query_start + b * 128) / 128 * 128;
  }
  return static_cast<std::int64_t>(b * task.problem.heads + h) * task.padded_queries;
}

/// The keys that a tile of queries sees, and the reverse, as [first, end) with end <= first for none.
struct Span {
  int first;
  int end;
};
template <class Lengths>
__device__ inline Span keys_seen(const Lengths& l, int first_query, int last_query) {
  return {max(0, first_query + l.first_offset), min(l.keys, last_query + l.last_offset + 1)};
}
template <class Lengths>
__device__ inline Span queries_seeing(const Lengths& l, int first_key, int last_key) {
  return {max(0, first_key - l.last_offset), min(l.queries, last_key - l.first_offset + 1)};
}
/// Whether some pair of the tile is hidden. Queries behind the last one do not count.
template <class Lengths>
__device__ inline bool needs_mask(const Lengths& l, int first_query, int query_count, int first_key, int key_count) {
  const int last_key = first_key + key_count - 1;
  const int last_query = min(first_query + query_count, l.queries) - 1;
  return last_key >= l.keys || last_key > first_query + l.last_offset || first_key < last_query + l.first_offset;
}

/// Whether all pairs of a tile are hidden.
template <class Lengths>
__device__ inline bool sees_nothing(const Lengths& l, int first_query, int query_count, int first_key, int key_count) {
  return first_query + query_count - 1 + l.last_offset < first_key ||
         first_query + l.first_offset > first_key + key_count - 1 || first_query >= l.queries || first_key >= l.keys;
}

/// Which elements of the probabilities stay, by the rule of core/ops/attention.h. A block of four random numbers covers
/// four keys of one query. Those lanes that hold parts of the same blocks draw one block each and exchange the four
/// resulting bits.
struct DropRule {
  std::uint64_t seed;
  std::uint64_t blocks_per_row;
  std::uint32_t threshold;

  __device__ explicit DropRule(const AttentionProblem& p)
      : seed(p.random.seed),
        blocks_per_row((static_cast<std::uint64_t>(p.keys) + 3) / 4),
        threshold(p.drop_threshold) {}

  /// First block of query i of head h in batch b.
  __device__ std::uint64_t row(const AttentionProblem& p, int b, int h, int i) const {
    return random_offset(p.random) + (static_cast<std::uint64_t>(b * p.heads + h) * p.queries + i) * blocks_per_row;
  }

  __device__ std::uint32_t four(std::uint64_t block) const {
    const PhiloxBlock r = philox(seed, block);
    std::uint32_t bits = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) bits |= (dropout_keeps(r.x[i], threshold) ? 1U : 0U) << i;
    return bits;
  }
};

}  // namespace trinix::cuda
