#pragma once

#include <trinix/backends/cpu/attention/attention.h>
#include <trinix/backends/cpu/attention/bias.h>
#include <trinix/backends/cpu/attention/tile_product.h>

/// @file
/// What every backward pass begins with: the probabilities of a block of queries and a block of keys, recomputed from
/// lse, and the gradients of their scores.

namespace trinix::cpu::internal {

inline constexpr std::int64_t kPairQueries = 64;
inline constexpr std::int64_t kPairKeys = 128;
inline constexpr std::int64_t kPairPitch = kPairKeys + 16;  // a power of two would map rows onto the same cache lines
inline constexpr std::int64_t kPairPanel = kTileColumns<float>;

/// A pair of blocks: queries [i0, i0 + rows) and keys [j0, j0 + cols) of query head h.
struct Pair {
  /// The band of a row: columns [begin(row), end(row)). Both rise with the row.
  [[nodiscard]] std::int64_t begin(std::int64_t row) const {
    return std::clamp<std::int64_t>(sequence.begin(i0 + row) - j0, 0, cols);
  }
  [[nodiscard]] std::int64_t end(std::int64_t row) const {
    return std::max(begin(row), std::clamp<std::int64_t>(sequence.end(i0 + row) - j0, 0, cols));
  }
  [[nodiscard]] bool in_band(std::int64_t row, std::int64_t col) const { return col >= begin(row) && col < end(row); }
  /// Rows before this one end at or before `col`.
  [[nodiscard]] std::int64_t first_row(std::int64_t col) const {
    return std::clamp<std::int64_t>(j0 + col - sequence.offset - sequence.right - i0, 0, rows);
  }
  /// Rows from this one on begin at or behind `col_end`.
  [[nodiscard]] std::int64_t row_end(std::int64_t col_end) const {
    return std::clamp<std::int64_t>(j0 + col_end - sequence.offset + sequence.left - i0, first_row(col_end - 1), rows);
  }

  const AttentionSequence& sequence;
  std::int64_t h, i0, rows, j0, cols;
};

/// Calls f(pair) for each block of keys with which the queries [i0, i0 + rows) may have to do.
template <class F>
void for_each_pair(const AttentionSequence& sequence, std::int64_t h, std::int64_t i0, std::int64_t j_begin,
                   std::int64_t j_end, F&& f) {
  const std::int64_t rows = std::min(kPairQueries, sequence.queries - i0);
  const std::int64_t seen = std::min(sequence.end(i0 + rows - 1), j_end);
  for (std::int64_t j0 = j_begin; j0 < seen; j0 += kPairKeys) {
    const std::int64_t cols = std::min(kPairKeys, seen - j0);
    if (sequence.begin(i0) < j0 + cols) f(Pair{sequence, h, i0, rows, j0, cols});
  }
}

/// Memory of one thread.
struct PairScratch {
  template <class Take>
  void lay_out(const AttentionShape& s, bool masked, Take&& take) {
    take(queries_t, kPairQueries * s.depth);
    take(dout, kPairQueries * round_up(s.value_depth, kLanes));
    take(dout_t, kPairQueries * round_up(s.value_depth, kLanes));
    take(p, kPairQueries * kPairPitch);
    take(ds, kPairQueries * kPairPitch);
    take(mask, masked ? kPairQueries * kPairPitch : 0);
    take(random, kPairQueries * kPairKeys);
  }

  float *queries_t = nullptr, *dout = nullptr, *dout_t = nullptr;  ///< of a block
  /// Of a pair: p with its dropout, and ds; 0 within the band where a mask hides, and beside the band as far as a tile
  /// that overlaps it reaches.
  float *p = nullptr, *ds = nullptr;
  float *mask = nullptr, *random = nullptr;
};

class PairBackward {
 public:
  explicit PairBackward(const Attention::Backward& args);

  /// Of queries [i0, i0 + rows): lse, but +inf where nothing is seen; and delta = dout . out - dlse.
  void prepare(const AttentionSequence& sequence, std::int64_t h, std::int64_t i0, std::int64_t rows,
               const PairScratch& s, float* lse, float* delta) const;

  /// Fills s.p and s.ds, and s.queries_t and s.dout_t on the way. keys_t and values_t are the pair's, in panels; lse
  /// and delta those of its rows. False when the mask hides everything: nothing is filled then.
  bool recompute(const Pair& pair, const float* keys_t, const float* values_t, const float* lse, const float* delta,
                 const PairScratch& s) const;

  [[nodiscard]] const AttentionShape& shape() const { return shape_; }
  [[nodiscard]] float scale() const { return scale_; }
  [[nodiscard]] bool has_mask() const { return bias_.has_mask(); }

 private:
  void score_product(const Pair& pair, const float* a, const float* b, std::int64_t depth, float alpha, float* c) const;
  template <bool kBiased>
  void softmax_backward(const Pair& pair, const float* lse, const float* delta, const PairScratch& s) const;
  std::int64_t draw(const Pair& pair, std::uint32_t* bits) const;
  [[nodiscard]] Lanes kept(const std::uint32_t* bits) const;

  const Attention::Backward& args_;
  AttentionShape shape_;
  AttentionBias bias_;
  float scale_;
  std::uint32_t threshold_;
  float drop_scale_;
};

}  // namespace trinix::cpu::internal
