#include <atomic>

#include <trinix/backends/cpu/attention/attention.h>
#include <trinix/backends/cpu/attention/tile_product.h>
#include <trinix/backends/cpu/gemm/workspace.h>
#include <trinix/backends/cpu/parallel.h>
#include <trinix/backends/cpu/random_bits.h>
#include <trinix/core/ops/dropout.h>

// One task per key head. It goes over blocks of keys and, within, over blocks of queries, so that the sums for dk and
// dv of a block stay in the cache; the sums for dq are kept for the whole head. Probabilities are recomputed from lse,
// queries by keys, which is the order that dv and dk want for their left operand; for dq it is transposed in registers.

namespace trinix::cpu {

namespace {

using namespace internal;

constexpr std::int64_t kQueries = 64;        // of a block
constexpr std::int64_t kKeys = 128;          // of a block
constexpr std::int64_t kPitch = kKeys + 16;  // a power of two would map rows onto the same cache lines
constexpr std::int64_t kTransposedPitch = kQueries + 16;
constexpr std::int64_t kPanel = kTileColumns<float>;

/// What a thread needs for one key head.
struct Scratch {
  Scratch(const AttentionShape& s, void* memory)
      : padded(round_up(s.depth, kLanes)), value_padded(round_up(s.value_depth, kLanes)) {
    Arena arena(memory);
    lay_out(s, [&](float*& piece, std::int64_t count) { piece = arena.take(count); });
    bits = reinterpret_cast<std::uint32_t*>(random);
  }
  static std::int64_t elements(const AttentionShape& s) {
    Scratch sizes;
    sizes.padded = round_up(s.depth, kLanes);
    sizes.value_padded = round_up(s.value_depth, kLanes);
    std::int64_t total = 0;
    sizes.lay_out(s, [&](float*&, std::int64_t count) { total += Arena::rounded(count); });
    return total;
  }

  std::int64_t padded = 0, value_padded = 0;                      ///< components, rounded up to vectors
  float *keys = nullptr, *keys_t = nullptr, *values_t = nullptr;  ///< of the head: by position, by component
  float *dk = nullptr, *dv = nullptr, *dq = nullptr;              ///< sums, by position
  float *lse = nullptr, *delta = nullptr;                         ///< of each query; lse to the base 2
  float *queries = nullptr, *queries_t = nullptr, *dout = nullptr, *dout_t = nullptr;  ///< of a block
  float *p = nullptr, *ds = nullptr, *ds_t = nullptr;                                  ///< of a pair of blocks
  float* random = nullptr;
  std::uint32_t* bits = nullptr;

 private:
  Scratch() = default;
  template <class Take>
  void lay_out(const AttentionShape& s, Take&& take) {
    take(keys, s.keys * padded);
    take(keys_t, round_up(s.keys, kPanel) * s.depth);
    take(values_t, round_up(s.keys, kPanel) * s.value_depth);
    take(dk, s.keys * padded);
    take(dv, s.keys * value_padded);
    take(dq, s.queries * padded);
    take(lse, s.queries);
    take(delta, s.queries);
    take(queries, kQueries * padded);
    take(queries_t, kQueries * s.depth);
    take(dout, kQueries * value_padded);
    take(dout_t, kQueries * value_padded);
    take(p, kQueries * kPitch);
    take(ds, kQueries * kPitch);
    take(ds_t, kKeys * kTransposedPitch);
    take(random, kQueries * kKeys);
  }
};

/// A pair of blocks: queries [i0, i0 + rows) and keys [j0, j0 + cols) of query head h.
struct Pair {
  std::int64_t b, h, i0, rows, j0, cols;
};

class BlockedBackward {
 public:
  explicit BlockedBackward(const Attention::Backward& args)
      : args_(args),
        shape_(args.in),
        scale_(static_cast<float>(args.in.scale)),
        threshold_(dropout_threshold(args.in.dropout)),
        drop_scale_(static_cast<float>(dropout_scale(args.in.dropout))) {}

  void run() {
    const std::int64_t tasks = shape_.batch * shape_.key_heads;
    const double flops = 4.0 * static_cast<double>(shape_.batch * shape_.heads * shape_.queries) *
                         static_cast<double>(shape_.keys * (shape_.depth + shape_.value_depth));
    const int threads = static_cast<int>(
        std::min<std::int64_t>(threads_for(static_cast<std::int64_t>(flops), std::int64_t{1} << 20), tasks));
    const std::int64_t slice = Scratch::elements(shape_);
    auto* memory = static_cast<float*>(thread_workspace(sizeof(float) * static_cast<std::size_t>(slice * threads)));
    std::atomic<std::int64_t> next{0};
    team(threads, [&](int t, int) {
      const Scratch scratch(shape_, memory + t * slice);
      for (std::int64_t task = next++; task < tasks; task = next++) {
        differentiate(task / shape_.key_heads, task % shape_.key_heads, scratch);
      }
    });
  }

 private:
  void differentiate(std::int64_t b, std::int64_t hk, const Scratch& s) const {
    const HeadRows keys = head_of(args_.in.k, b, hk);
    pack_components(keys, 0, shape_.keys, shape_.depth, s.padded, s.keys);
    pack_positions(keys, 0, shape_.keys, shape_.keys, shape_.depth, kPanel, s.keys_t);
    pack_positions(head_of(args_.in.v, b, hk), 0, shape_.keys, shape_.keys, shape_.value_depth, kPanel, s.values_t);
    std::fill(s.dk, s.dk + shape_.keys * s.padded, 0.0F);
    std::fill(s.dv, s.dv + shape_.keys * s.value_padded, 0.0F);
    for (std::int64_t h = hk * shape_.group; h < (hk + 1) * shape_.group; ++h) differentiate_head(b, h, s);
    for (std::int64_t j = 0; j < shape_.keys; ++j) {
      if (args_.dk.defined) store_position(args_.dk, b, j, hk, s.dk + j * s.padded, 1);
      if (args_.dv.defined) store_position(args_.dv, b, j, hk, s.dv + j * s.value_padded, 1);
    }
  }

  void differentiate_head(std::int64_t b, std::int64_t h, const Scratch& s) const {
    prepare_queries(b, h, s);
    std::fill(s.dq, s.dq + shape_.queries * s.padded, 0.0F);
    for (std::int64_t j0 = 0; j0 < shape_.keys; j0 += kKeys) {
      const std::int64_t cols = std::min(kKeys, shape_.keys - j0);
      for (std::int64_t i0 = 0; i0 < shape_.queries; i0 += kQueries) {
        const std::int64_t rows = std::min(kQueries, shape_.queries - i0);
        const std::int64_t seen = std::min(shape_.visible(i0 + rows - 1) - j0, cols);
        if (seen > 0) add_pair({b, h, i0, rows, j0, seen}, s);
      }
    }
    if (!args_.dq.defined) return;
    for (std::int64_t i = 0; i < shape_.queries; ++i) store_position(args_.dq, b, i, h, s.dq + i * s.padded, 1);
  }

  /// lse to the base 2, and delta = dout . out.
  void prepare_queries(std::int64_t b, std::int64_t h, const Scratch& s) const {
    const float* lse = args_.lse.as<float>() + (b * shape_.heads + h) * shape_.queries;
    for (std::int64_t i = 0; i < shape_.queries; ++i) s.lse[i] = lse[i] * kLog2E;
    const HeadRows out = head_of(args_.out, b, h);
    const HeadRows dout = head_of(args_.dout, b, h);
    for (std::int64_t i0 = 0; i0 < shape_.queries; i0 += kQueries) {
      const std::int64_t rows = std::min(kQueries, shape_.queries - i0);
      pack_components(dout, i0, rows, shape_.value_depth, s.value_padded, s.dout);
      pack_components(out, i0, rows, shape_.value_depth, s.value_padded, s.dout_t);  // free until the pairs come
      for (std::int64_t r = 0; r < rows; ++r) {
        Lanes total = {};
        for (std::int64_t c = 0; c < s.value_padded; c += kLanes) {
          total += load(s.dout_t + r * s.value_padded + c) * load(s.dout + r * s.value_padded + c);
        }
        s.delta[i0 + r] = horizontal_sum<float>(total);
      }
    }
  }

  /// The first row of the pair that sees key j0 + col.
  [[nodiscard]] std::int64_t first_row(const Pair& pair, std::int64_t col) const {
    if (!shape_.causal) return 0;
    return std::clamp<std::int64_t>(pair.j0 + col - (shape_.keys - shape_.queries) - pair.i0, 0, pair.rows);
  }
  /// How many keys of the pair row `row` sees.
  [[nodiscard]] std::int64_t seen_by(const Pair& pair, std::int64_t row) const {
    return std::clamp<std::int64_t>(shape_.visible(pair.i0 + row) - pair.j0, 0, pair.cols);
  }

  void add_pair(const Pair& pair, const Scratch& s) const {
    const HeadRows q = head_of(args_.in.q, pair.b, pair.h);
    const HeadRows dout = head_of(args_.dout, pair.b, pair.h);
    pack_components(q, pair.i0, pair.rows, shape_.depth, s.padded, s.queries);
    pack_positions(q, pair.i0, pair.rows, shape_.queries, shape_.depth, kQueries, s.queries_t);
    pack_components(dout, pair.i0, pair.rows, shape_.value_depth, s.value_padded, s.dout);
    pack_positions(dout, pair.i0, pair.rows, shape_.queries, shape_.value_depth, kQueries, s.dout_t);
    score_product(pair, s.queries_t, s.keys_t, shape_.depth, scale_ * kLog2E, s.p);
    score_product(pair, s.dout_t, s.values_t, shape_.value_depth, 1, s.ds);
    softmax_backward(pair, s);
    if (args_.dv.defined) {
      add_to_keys(pair, s.p, s.dout, s.value_padded, 1, s.dv + pair.j0 * s.value_padded);
    }
    if (args_.dk.defined) add_to_keys(pair, s.ds, s.queries, s.padded, scale_, s.dk + pair.j0 * s.padded);
    if (args_.dq.defined) add_to_queries(pair, s);
  }

  /// c = alpha (positions of a) (positions of b)^T where anything is visible.
  void score_product(const Pair& pair, const float* a, const float* b, std::int64_t depth, float alpha,
                     float* c) const {
    const std::int64_t tile_rows = balanced_tile_rows(pair.rows);
    multiply({.rows = pair.rows,
              .cols = pair.cols,
              .tile_rows = tile_rows,
              .a = a,
              .a_step = kQueries,
              .a_panel = tile_rows,
              .b = b + pair.j0 * depth,
              .b_step = kPanel,
              .b_panel = kPanel * depth,
              .c = c,
              .c_step = kPitch,
              .alpha = alpha},
             [&](std::int64_t row, std::int64_t rows, std::int64_t col, std::int64_t) {
               return col < seen_by(pair, row + rows - 1) ? Steps{0, depth} : Steps{1, 0};
             });
  }

  /// From scores and dp to p and ds, 0 where masked. Beyond what a row sees, one more vector is cleared, because the
  /// tiles of the products that follow take neighbouring rows and keys together.
  void softmax_backward(const Pair& pair, const Scratch& s) const {
    const bool drops = args_.in.dropout > 0;
    const std::int64_t bits_pitch = drops ? draw(pair, s.bits) : 0;
    for (std::int64_t r = 0; r < pair.rows; ++r) {
      float* p_row = s.p + r * kPitch;
      float* ds_row = s.ds + r * kPitch;
      const std::int64_t seen = seen_by(pair, r);
      const float lse = s.lse[pair.i0 + r];
      const float delta = s.delta[pair.i0 + r];
      const std::uint32_t* bits = s.bits + r * bits_pitch;
      std::int64_t c = 0;
      for (; c < seen; c += kLanes) {
        Lanes p = exp2(load(p_row + c) - lse);
        Lanes dp = load(ds_row + c);
        if (c + kLanes > seen) {
          const LaneInts sees = lane_numbers() < static_cast<std::int32_t>(seen - c);
          p = select(sees, p, Lanes{});
          dp = select(sees, dp, Lanes{});
        }
        if (drops) {
          const Lanes keep = kept(bits + c);
          store(p_row + c, p * keep);
          dp *= keep;
        } else {
          store(p_row + c, p);
        }
        store(ds_row + c, p * (dp - delta));
      }
      if (c < kPitch) {
        store(p_row + c, Lanes{});
        store(ds_row + c, Lanes{});
      }
    }
  }

  /// Random bits for the pair; returns the distance between its rows.
  std::int64_t draw(const Pair& pair, std::uint32_t* bits) const {
    const std::int64_t row_numbers = 4 * shape_.random_blocks();
    const std::int64_t first = 4 * shape_.random_row(pair.b, pair.h, pair.i0);
    if (row_numbers <= kKeys) {  // whole rows, which follow each other
      random_bits(args_.in.random, first, pair.rows * row_numbers, bits);
      return row_numbers;
    }
    for (std::int64_t r = 0; r < pair.rows; ++r) {
      random_bits(args_.in.random, first + r * row_numbers + pair.j0, seen_by(pair, r), bits + r * kKeys);
    }
    return kKeys;
  }

  /// 1 / (1 - p) for the values kept, else 0: dropout_keeps() on a vector.
  [[nodiscard]] Lanes kept(const std::uint32_t* bits) const {
    const LaneInts keeps = load(bits) >= threshold_;
    return select(keeps, broadcast(drop_scale_), Lanes{});
  }

  /// sums[key] += alpha sum over queries of weights[query][key] rows[query].
  void add_to_keys(const Pair& pair, const float* weights, const float* rows, std::int64_t padded, float alpha,
                   float* sums) const {
    const std::int64_t tile_rows = balanced_tile_rows(pair.cols);
    multiply({.rows = pair.cols,
              .cols = padded,
              .tile_rows = tile_rows,
              .a = weights,
              .a_step = kPitch,
              .a_panel = tile_rows,
              .b = rows,
              .b_step = padded,
              .c = sums,
              .c_step = padded,
              .alpha = alpha,
              .accumulate = true},
             [&](std::int64_t col, auto...) {
               return Steps{first_row(pair, col), pair.rows};
             });
  }

  void add_to_queries(const Pair& pair, const Scratch& s) const {
    for (std::int64_t c = 0; c < pair.cols; c += kLanes) {
      for (std::int64_t r = 0; r < pair.rows; r += kLanes) {
        Lanes square[kLanes];
        unrolled<kLanes>([&](auto i) __attribute__((always_inline)) { square[i] = load(s.ds + (r + i) * kPitch + c); });
        transpose<float>(square);
        unrolled<kLanes>([&](auto i) __attribute__((always_inline)) {
          store(s.ds_t + (c + i) * kTransposedPitch + r, square[i]);
        });
      }
    }
    const std::int64_t tile_rows = balanced_tile_rows(pair.rows);
    multiply({.rows = pair.rows,
              .cols = s.padded,
              .tile_rows = tile_rows,
              .a = s.ds_t,
              .a_step = kTransposedPitch,
              .a_panel = tile_rows,
              .b = s.keys + pair.j0 * s.padded,
              .b_step = s.padded,
              .c = s.dq + pair.i0 * s.padded,
              .c_step = s.padded,
              .alpha = scale_,
              .accumulate = true},
             [&](std::int64_t row, std::int64_t rows, auto...) {
               return Steps{0, seen_by(pair, row + rows - 1)};
             });
  }

  const Attention::Backward& args_;
  AttentionShape shape_;
  float scale_;
  std::uint32_t threshold_;
  float drop_scale_;
};

}  // namespace

void attention_backward(const Attention::Backward& args) { BlockedBackward(args).run(); }

}  // namespace trinix::cpu
