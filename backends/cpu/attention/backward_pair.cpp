#include <trinix/backends/cpu/attention/backward_pair.h>
#include <trinix/backends/cpu/random_bits.h>
#include <trinix/core/ops/dropout.h>

namespace trinix::cpu::internal {

PairBackward::PairBackward(const Attention::Backward& args)
    : args_(args),
      shape_(args.in),
      bias_(args.in),
      scale_(static_cast<float>(args.in.scale)),
      threshold_(dropout_threshold(args.in.dropout)),
      drop_scale_(static_cast<float>(dropout_scale(args.in.dropout))) {}

void PairBackward::prepare(const AttentionSequence& sequence, std::int64_t h, std::int64_t i0, std::int64_t rows,
                           const PairScratch& s, float* lse, float* delta) const {
  const std::int64_t padded = round_up(shape_.value_depth, kLanes);
  const std::int64_t at = shape_.lse_row(sequence, h, i0);
  pack_components(head_of(args_.dout, sequence.batch, h, sequence.first_query), i0, rows, shape_.value_depth, padded,
                  s.dout);
  float* out = s.dout_t;  // free until the pairs come
  pack_components(head_of(args_.out, sequence.batch, h, sequence.first_query), i0, rows, shape_.value_depth, padded,
                  out);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float saved = args_.lse.as<float>()[at + r];
    lse[r] = saved == kMinusInfinity ? -kMinusInfinity : saved;
    Lanes total = {};
    for (std::int64_t c = 0; c < padded; c += kLanes)
      total += load(out + r * padded + c) * load(s.dout + r * padded + c);
    delta[r] = horizontal_sum<float>(total) - (args_.dlse.defined ? args_.dlse.as<float>()[at + r] : 0.0F);
  }
}

bool PairBackward::recompute(const Pair& pair, const float* keys_t, const float* values_t, const float* lse,
                             const float* delta, const PairScratch& s) const {
  const AttentionSequence& sequence = pair.sequence;
  if (bias_.has_mask() &&
      !bias_.pack_rows(sequence, pair.h, pair.i0, pair.rows, pair.j0, pair.cols, kPairPitch, s.mask)) {
    return false;
  }
  const HeadRows query = head_of(args_.in.q, sequence.batch, pair.h, sequence.first_query);
  const HeadRows dout = head_of(args_.dout, sequence.batch, pair.h, sequence.first_query);
  pack_positions(query, pair.i0, pair.rows, sequence.queries, shape_.depth, kPairQueries, s.queries_t);
  pack_positions(dout, pair.i0, pair.rows, sequence.queries, shape_.value_depth, kPairQueries, s.dout_t);
  score_product(pair, s.queries_t, keys_t, shape_.depth, scale_, s.p);
  score_product(pair, s.dout_t, values_t, shape_.value_depth, 1, s.ds);
  if (bias_.any()) {
    softmax_backward<true>(pair, lse, delta, s);
  } else {
    softmax_backward<false>(pair, lse, delta, s);
  }
  return true;
}

/// c = alpha (positions of a) (positions of b)^T where the band reaches.
void PairBackward::score_product(const Pair& pair, const float* a, const float* b, std::int64_t depth, float alpha,
                                 float* c) const {
  const std::int64_t tile_rows = balanced_tile_rows(pair.rows);
  multiply({.rows = pair.rows,
            .cols = pair.cols,
            .tile_rows = tile_rows,
            .a = a,
            .a_step = kPairQueries,
            .a_panel = tile_rows,
            .b = b,
            .b_step = kPairPanel,
            .b_panel = kPairPanel * depth,
            .c = c,
            .c_step = kPairPitch,
            .alpha = alpha},
           [&](std::int64_t row, std::int64_t rows, std::int64_t col, std::int64_t cols) {
             const bool reached = col < pair.end(row + rows - 1) && col + cols > pair.begin(row);
             return reached ? Steps{0, depth} : Steps{1, 0};
           });
}

/// From scores and dp to p and ds.
template <bool kBiased>
void PairBackward::softmax_backward(const Pair& pair, const float* lse, const float* delta,
                                    const PairScratch& s) const {
  const bool drops = args_.in.dropout > 0;
  auto* bits = reinterpret_cast<std::uint32_t*>(s.random);
  const std::int64_t bits_pitch = drops ? draw(pair, bits) : 0;
  const float slope = bias_.slope(pair.sequence, pair.h);
  for (std::int64_t r = 0; r < pair.rows; ++r) {
    float* p_row = s.p + r * kPairPitch;
    float* ds_row = s.ds + r * kPairPitch;
    const std::int64_t begin = pair.begin(r);
    const std::int64_t end = pair.end(r);
    const auto clear = [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t c = from; c < to; c += kLanes) {
        store(p_row + c, Lanes{});
        store(ds_row + c, Lanes{});
      }
    };
    std::int64_t c = begin / kLanes * kLanes;
    clear(0, c);
    for (; c < end; c += kLanes) {
      Lanes score = load(p_row + c);
      if constexpr (kBiased) {
        const auto from = static_cast<float>(pair.j0 + c - pair.i0 - r - pair.sequence.offset);
        const Lanes distance = lane_floats() + from;
        score -= maximum(distance, -distance) * slope;
        if (bias_.has_mask()) score = AttentionBias::add(score, load(s.mask + r * kPairPitch + c));
      }
      if (c < begin || c + kLanes > end) {
        const LaneInts lane = lane_numbers();
        const LaneInts sees =
            (lane >= static_cast<std::int32_t>(begin - c)) & (lane < static_cast<std::int32_t>(end - c));
        score = select(sees, score, broadcast(kMinusInfinity));
      }
      // Of a hidden pair, lse and dp may be NaN.
      const LaneInts hidden = score == kMinusInfinity;
      const Lanes p = select(hidden, Lanes{}, exp_difference(score, broadcast(lse[r])));
      Lanes dp = load(ds_row + c);
      if (drops) {
        const Lanes keep = kept(bits + r * bits_pitch + c);
        store(p_row + c, p * keep);
        dp *= keep;
      } else {
        store(p_row + c, p);
      }
      store(ds_row + c, select(hidden, Lanes{}, p * (dp - delta[r])));
    }
    clear(c, std::min(round_up(end + Tile::rows, kLanes), kPairPitch));
  }
}

/// Random bits for the pair; returns the distance between its rows.
std::int64_t PairBackward::draw(const Pair& pair, std::uint32_t* bits) const {
  const std::int64_t row_numbers = 4 * shape_.random_blocks();
  const std::int64_t first = 4 * shape_.random_row(pair.sequence, pair.h, pair.i0);
  if (row_numbers <= kPairKeys) {  // whole rows, which follow each other
    random_bits(args_.in.random, first, pair.rows * row_numbers, bits);
    return row_numbers;
  }
  for (std::int64_t r = 0; r < pair.rows; ++r) {
    const std::int64_t begin = pair.begin(r);
    random_bits(args_.in.random, first + r * row_numbers + pair.j0 + begin, pair.end(r) - begin,
                bits + r * kPairKeys + begin);
  }
  return kPairKeys;
}

/// 1 / (1 - p) for the values kept, else 0: dropout_keeps() on a vector.
Lanes PairBackward::kept(const std::uint32_t* bits) const {
  const LaneInts keeps = load(bits) >= threshold_;
  return select(keeps, broadcast(drop_scale_), Lanes{});
}

}  // namespace trinix::cpu::internal
