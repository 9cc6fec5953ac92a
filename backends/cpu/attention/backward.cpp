#include <atomic>

#include <trinix/backends/cpu/attention/backward_pair.h>
#include <trinix/backends/cpu/gemm/workspace.h>
#include <trinix/backends/cpu/parallel.h>

// One task per key head. It goes over blocks of keys and, within, over blocks of queries, so that the sums for dk and
// dv of a block stay in the cache; the sums for dq are kept for the whole head. Probabilities are recomputed from lse,
// queries by keys, which is the order that dv and dk want for their left operand; for dq it is transposed in registers.

namespace trinix::cpu {

namespace {

using namespace internal;

constexpr std::int64_t kTransposedPitch = kPairQueries + 16;

/// What a thread needs for one key head.
class Scratch {
 public:
  Scratch(const AttentionShape& s, bool masked, void* memory) : Scratch(s) {
    Arena arena(memory);
    lay_out(s, masked, [&](float*& piece, std::int64_t count) { piece = arena.take(count); });
  }
  static std::int64_t elements(const AttentionShape& s, bool masked) {
    Scratch sizes(s);
    std::int64_t total = 0;
    sizes.lay_out(s, masked, [&](float*&, std::int64_t count) { total += Arena::rounded(count); });
    return total;
  }

  std::int64_t padded, value_padded;                              ///< components, rounded up to vectors
  float *keys = nullptr, *keys_t = nullptr, *values_t = nullptr;  ///< of the head: by position, by component
  float *dk = nullptr, *dv = nullptr, *dq = nullptr;              ///< sums, by position
  float *lse = nullptr, *delta = nullptr;                         ///< of each query
  float *queries = nullptr, *ds_t = nullptr;                      ///< of a block and of a pair
  PairScratch pair;
  float *key_strays = nullptr, *query_strays = nullptr, *dout_strays = nullptr, *stray = nullptr;  ///< for StrayRows

 private:
  explicit Scratch(const AttentionShape& s)
      : padded(round_up(s.depth, kLanes)), value_padded(round_up(s.value_depth, kLanes)) {}
  template <class Take>
  void lay_out(const AttentionShape& s, bool masked, Take&& take) {
    take(keys, s.keys * padded);
    take(keys_t, round_up(s.keys, kPairPanel) * s.depth);
    take(values_t, round_up(s.keys, kPairPanel) * s.value_depth);
    take(dk, s.keys * padded);
    take(dv, s.keys * value_padded);
    take(dq, s.queries * padded);
    take(lse, s.queries);
    take(delta, s.queries);
    take(queries, kPairQueries * padded);
    take(ds_t, kPairKeys * kTransposedPitch);
    take(key_strays, s.keys);
    take(query_strays, kPairQueries);
    take(dout_strays, kPairQueries);
    take(stray, std::max(padded, value_padded));
    pair.lay_out(s, masked, take);
  }
};

class BlockedBackward {
 public:
  explicit BlockedBackward(const Attention::Backward& args) : args_(args), pairs_(args), shape_(pairs_.shape()) {}

  void run() {
    const std::int64_t tasks = shape_.sequences * shape_.key_heads;
    const double flops = 4.0 * static_cast<double>(shape_.sequences * shape_.heads * shape_.queries) *
                         static_cast<double>(shape_.keys * (shape_.depth + shape_.value_depth));
    const int threads = static_cast<int>(
        std::min<std::int64_t>(threads_for(static_cast<std::int64_t>(flops), std::int64_t{1} << 20), tasks));
    const std::int64_t slice = Scratch::elements(shape_, pairs_.has_mask());
    auto* memory = static_cast<float*>(thread_workspace(sizeof(float) * static_cast<std::size_t>(slice * threads)));
    std::atomic<std::int64_t> next{0};
    team(threads, [&](int t, int) {
      const Scratch scratch(shape_, pairs_.has_mask(), memory + t * slice);
      for (std::int64_t task = next++; task < tasks; task = next++) {
        differentiate(shape_.sequence(task / shape_.key_heads), task % shape_.key_heads, scratch);
      }
    });
  }

 private:
  void differentiate(const AttentionSequence& sequence, std::int64_t hk, const Scratch& s) const {
    StrayRows strays(s.key_strays);
    if (sequence.keys > 0) {
      const HeadRows keys = head_of(args_.in.k, sequence.batch, hk, sequence.first_key);
      const HeadRows values = head_of(args_.in.v, sequence.batch, hk, sequence.first_key);
      pack_components(keys, 0, sequence.keys, shape_.depth, s.padded, s.keys);
      strays.take_out(s.keys, 0, sequence.keys, s.padded);
      pack_positions(keys, 0, sequence.keys, sequence.keys, shape_.depth, kPairPanel, s.keys_t);
      pack_positions(values, 0, sequence.keys, sequence.keys, shape_.value_depth, kPairPanel, s.values_t);
    }
    std::fill(s.dk, s.dk + sequence.keys * s.padded, 0.0F);
    std::fill(s.dv, s.dv + sequence.keys * s.value_padded, 0.0F);
    for (std::int64_t h = hk * shape_.group; h < (hk + 1) * shape_.group; ++h) {
      differentiate_head(sequence, h, strays, s);
    }
    for (std::int64_t j = 0; j < sequence.keys; ++j) {
      const std::int64_t at = sequence.first_key + j;
      if (args_.dk.defined) store_position(args_.dk, sequence.batch, at, hk, s.dk + j * s.padded, 1);
      if (args_.dv.defined) store_position(args_.dv, sequence.batch, at, hk, s.dv + j * s.value_padded, 1);
    }
  }

  void differentiate_head(const AttentionSequence& sequence, std::int64_t h, const StrayRows& strays,
                          const Scratch& s) const {
    for (std::int64_t i0 = 0; i0 < sequence.queries; i0 += kPairQueries) {
      const std::int64_t rows = std::min(kPairQueries, sequence.queries - i0);
      pairs_.prepare(sequence, h, i0, rows, s.pair, s.lse + i0, s.delta + i0);
    }
    std::fill(s.dq, s.dq + sequence.queries * s.padded, 0.0F);
    for (std::int64_t j0 = 0; j0 < sequence.keys; j0 += kPairKeys) {
      for (std::int64_t i0 = 0; i0 < sequence.queries; i0 += kPairQueries) {
        for_each_pair(sequence, h, i0, j0, j0 + kPairKeys, [&](const Pair& pair) { add_pair(pair, strays, s); });
      }
    }
    if (!args_.dq.defined) return;
    for (std::int64_t i = 0; i < sequence.queries; ++i) {
      store_position(args_.dq, sequence.batch, sequence.first_query + i, h, s.dq + i * s.padded, 1);
    }
  }

  void add_pair(const Pair& pair, const StrayRows& key_strays, const Scratch& s) const {
    if (!pairs_.recompute(pair, s.keys_t + pair.j0 * shape_.depth, s.values_t + pair.j0 * shape_.value_depth,
                          s.lse + pair.i0, s.delta + pair.i0, s.pair)) {
      return;
    }
    const AttentionSequence& sequence = pair.sequence;
    if (args_.dv.defined) {
      const HeadRows dout = head_of(args_.dout, sequence.batch, pair.h, sequence.first_query);
      const Rows rows{dout, shape_.value_depth, s.value_padded, s.pair.dout, s.dout_strays, s.stray};
      add_to_keys(pair, s.pair.p, rows, 1, s.dv + pair.j0 * s.value_padded);
    }
    if (args_.dk.defined) {
      const HeadRows query = head_of(args_.in.q, sequence.batch, pair.h, sequence.first_query);
      const Rows rows{query, shape_.depth, s.padded, s.queries, s.query_strays, s.stray};
      add_to_keys(pair, s.pair.ds, rows, pairs_.scale(), s.dk + pair.j0 * s.padded);
    }
    if (args_.dq.defined) add_to_queries(pair, key_strays, s);
  }

  /// The queries' side of a sum over queries, and where a block of it is packed.
  struct Rows {
    HeadRows head;
    std::int64_t depth, padded;
    float *packed, *strays, *stray;
  };

  /// sums[key] += alpha sum over queries of weights[query][key] rows[query].
  void add_to_keys(const Pair& pair, const float* weights, const Rows& rows, float alpha, float* sums) const {
    pack_components(rows.head, pair.i0, pair.rows, rows.depth, rows.padded, rows.packed);
    StrayRows strays(rows.strays);
    strays.take_out(rows.packed, pair.i0, pair.rows, rows.padded);
    const std::int64_t tile_rows = balanced_tile_rows(pair.cols);
    multiply({.rows = pair.cols,
              .cols = rows.padded,
              .tile_rows = tile_rows,
              .a = weights,
              .a_step = kPairPitch,
              .a_panel = tile_rows,
              .b = rows.packed,
              .b_step = rows.padded,
              .c = sums,
              .c_step = rows.padded,
              .alpha = alpha,
              .accumulate = true},
             [&](std::int64_t col, std::int64_t cols, auto...) {
               return Steps{pair.first_row(col), pair.row_end(col + cols)};
             });
    if (strays.empty()) return;
    strays.add(rows.head, pair.i0, pair.i0 + pair.rows, pair.cols, rows.depth, rows.padded, alpha, rows.stray, sums,
               [&](std::int64_t col, std::int64_t row) {
                 return pair.in_band(row, col) ? weights[row * kPairPitch + col] : 0.0F;
               });
  }

  void add_to_queries(const Pair& pair, const StrayRows& strays, const Scratch& s) const {
    for (std::int64_t c = 0; c < pair.cols; c += kLanes) {
      for (std::int64_t r = 0; r < pair.rows; r += kLanes) {
        Lanes square[kLanes];
        unrolled<kLanes>([&](auto i) __attribute__((always_inline)) {
          square[i] = load(s.pair.ds + (r + i) * kPairPitch + c);
        });
        transpose<float>(square);
        unrolled<kLanes>([&](auto i) __attribute__((always_inline)) {
          store(s.ds_t + (c + i) * kTransposedPitch + r, square[i]);
        });
      }
    }
    float* sums = s.dq + pair.i0 * s.padded;
    const std::int64_t tile_rows = balanced_tile_rows(pair.rows);
    multiply({.rows = pair.rows,
              .cols = s.padded,
              .tile_rows = tile_rows,
              .a = s.ds_t,
              .a_step = kTransposedPitch,
              .a_panel = tile_rows,
              .b = s.keys + pair.j0 * s.padded,
              .b_step = s.padded,
              .c = sums,
              .c_step = s.padded,
              .alpha = pairs_.scale(),
              .accumulate = true},
             [&](std::int64_t row, std::int64_t rows, auto...) {
               return Steps{pair.begin(row), std::max(pair.begin(row), pair.end(row + rows - 1))};
             });
    if (strays.empty()) return;
    const AttentionSequence& sequence = pair.sequence;
    const HeadRows key = head_of(args_.in.k, sequence.batch, pair.h / shape_.group, sequence.first_key);
    strays.add(key, pair.j0, pair.j0 + pair.cols, pair.rows, shape_.depth, s.padded, pairs_.scale(), s.stray, sums,
               [&](std::int64_t row, std::int64_t col) {
                 return pair.in_band(row, col) ? s.pair.ds[row * kPairPitch + col] : 0.0F;
               });
  }

  const Attention::Backward& args_;
  PairBackward pairs_;
  const AttentionShape& shape_;
};

}  // namespace

void attention_backward(const Attention::Backward& args) { BlockedBackward(args).run(); }

}  // namespace trinix::cpu
