#include <atomic>
#include <cmath>

#include <trinix/backends/cpu/attention/attention.h>
#include <trinix/backends/cpu/attention/bias.h>
#include <trinix/backends/cpu/attention/tile_product.h>
#include <trinix/backends/cpu/gemm/workspace.h>
#include <trinix/backends/cpu/parallel.h>
#include <trinix/backends/cpu/random_bits.h>
#include <trinix/backends/cpu/vector_math.h>
#include <trinix/core/ops/dropout.h>

// Scores are computed transposed, keys by queries: a vector then holds one key's scores for neighbouring queries, so
// that the maximum and the sum of the softmax need no sums across lanes, and the block of probabilities is, as it
// stands, the left operand of the product with V.

namespace trinix::cpu {

namespace {

using namespace internal;

constexpr std::int64_t kQueries = kTileColumns<float>;  // of a block
constexpr int kGroups = Tile::vecs;                     // vectors of queries
constexpr std::int64_t kKeys = 288;                     // of a block, about

/// How the keys are cut: panels of `panel` keys are tiles of the score product, blocks are whole panels.
struct KeyBlocks {
  explicit KeyBlocks(std::int64_t keys) : panel(balanced_tile_rows(std::min(keys, kKeys))), block(panel) {
    if (keys == 0) return;
    const std::int64_t panels = ceil_div(keys, panel);
    const std::int64_t count = ceil_div(keys, kKeys);
    block = ceil_div(panels, count) * panel;
  }
  std::int64_t panel;
  std::int64_t block;
};

/// What a thread needs for one key head.
class Scratch {
 public:
  Scratch(const AttentionShape& s, bool masked, void* memory) : padded(round_up(s.value_depth, kLanes)) {
    Arena arena(memory);
    lay_out(s, masked, [&](float*& piece, std::int64_t count) { piece = arena.take(count); });
  }
  static std::int64_t elements(const AttentionShape& s, bool masked) {
    Scratch sizes(s);
    std::int64_t total = 0;
    sizes.lay_out(s, masked, [&](float*&, std::int64_t count) { total += Arena::rounded(count); });
    return total;
  }

  std::int64_t padded;  ///< components of V, rounded up to vectors
  float *keys = nullptr, *values = nullptr, *queries = nullptr, *scores = nullptr, *out = nullptr;
  float *mask = nullptr, *mask_rows = nullptr;  ///< of a block: turned as the scores are, and as it lies
  float *strays = nullptr, *stray = nullptr;    ///< for StrayRows

 private:
  explicit Scratch(const AttentionShape& s) : padded(round_up(s.value_depth, kLanes)) {}
  template <class Take>
  void lay_out(const AttentionShape& s, bool masked, Take&& take) {
    constexpr std::int64_t block = kKeys + 2 * Tile::rows;  // at most
    take(keys, (s.keys + Tile::rows) * s.depth + kPanelSlack<float>);
    take(values, s.keys * padded);
    take(queries, s.depth * kQueries);
    take(scores, block * kQueries);
    take(out, kQueries * padded);
    take(mask, masked ? block * kQueries : 0);
    take(mask_rows, masked ? block * kQueries : 0);
    take(strays, s.keys);
    take(stray, padded);
  }
};

/// Largest score and sum of exponentials of each query of a block so far.
struct Running {
  Lanes max[kGroups];
  Lanes sum[kGroups];
};

/// A block of queries of one head.
struct QueryBlock {
  const AttentionSequence& sequence;
  std::int64_t h, i0, count;
  [[nodiscard]] std::int64_t begin() const { return sequence.begin(i0); }
  [[nodiscard]] std::int64_t end() const { return sequence.end(i0 + count - 1); }
};

class BlockedForward {
 public:
  explicit BlockedForward(const Attention::Forward& args)
      : args_(args),
        shape_(args.in),
        bias_(args.in),
        scale_(static_cast<float>(args.in.scale)),
        threshold_(dropout_threshold(args.in.dropout)),
        drop_scale_(static_cast<float>(dropout_scale(args.in.dropout))) {}

  void run() {
    const std::int64_t key_heads = shape_.sequences * shape_.key_heads;
    const std::int64_t most = shape_.group * ceil_div(shape_.queries, kQueries);
    const double flops = 2.0 * static_cast<double>(shape_.sequences * shape_.heads * shape_.queries) *
                         static_cast<double>(shape_.keys * (shape_.depth + shape_.value_depth));
    const int wanted = threads_for(static_cast<std::int64_t>(flops), std::int64_t{1} << 20);
    // Every chunk packs the keys and values again, so a key head is only split when there are too few of them.
    const std::int64_t chunks = wanted == 1 ? 1 : std::clamp<std::int64_t>(ceil_div(4 * wanted, key_heads), 1, most);
    const std::int64_t tasks = key_heads * chunks;
    const int threads = static_cast<int>(std::min<std::int64_t>(wanted, tasks));
    const std::int64_t slice = Scratch::elements(shape_, bias_.has_mask());
    auto* memory = static_cast<float*>(thread_workspace(sizeof(float) * static_cast<std::size_t>(slice * threads)));
    std::atomic<std::int64_t> next{0};
    team(threads, [&](int t, int) {
      const Scratch scratch(shape_, bias_.has_mask(), memory + t * slice);
      for (std::int64_t taken = next++; taken < tasks; taken = next++) {
        // Later queries see more keys: the long tasks go first.
        const std::int64_t task = tasks - 1 - taken;
        const std::int64_t head = task / chunks;
        const std::int64_t chunk = task % chunks;
        const AttentionSequence sequence = shape_.sequence(head / shape_.key_heads);
        // Blocks of queries that share the key head.
        const std::int64_t units = shape_.group * ceil_div(sequence.queries, kQueries);
        attend(sequence, head % shape_.key_heads, units * chunk / chunks, units * (chunk + 1) / chunks, scratch);
      }
    });
  }

 private:
  /// Units [begin, end) of one key head; unit u is block u % blocks of the group's head u / blocks.
  void attend(const AttentionSequence& sequence, std::int64_t hk, std::int64_t begin, std::int64_t end,
              const Scratch& scratch) const {
    if (begin == end) return;
    const std::int64_t blocks = ceil_div(sequence.queries, kQueries);
    const auto block_of = [&](std::int64_t u) {
      const std::int64_t i0 = u % blocks * kQueries;
      return QueryBlock{sequence, hk * shape_.group + u / blocks, i0, std::min(kQueries, sequence.queries - i0)};
    };
    const bool one_head = begin / blocks == (end - 1) / blocks;
    const KeyBlocks cut(sequence.keys);
    // Packed are the keys that some of the units see, from the start of a block.
    const std::int64_t packed = (one_head ? block_of(begin) : block_of(0)).begin() / cut.block * cut.block;
    const std::int64_t keys = (one_head ? block_of(end - 1) : block_of(blocks - 1)).end() - packed;
    StrayRows strays(scratch.strays);
    if (keys > 0) {
      const HeadRows key = head_of(args_.in.k, sequence.batch, hk, sequence.first_key);
      const HeadRows value = head_of(args_.in.v, sequence.batch, hk, sequence.first_key);
      pack_positions(key, packed, keys, sequence.keys, shape_.depth, cut.panel, scratch.keys);
      pack_components(value, packed, keys, shape_.value_depth, scratch.padded, scratch.values);
      strays.take_out(scratch.values, packed, keys, scratch.padded);
    }
    for (std::int64_t u = begin; u < end; ++u) attend_block(block_of(u), cut, packed, strays, scratch);
  }

  void attend_block(const QueryBlock& block, const KeyBlocks& cut, std::int64_t packed, const StrayRows& strays,
                    const Scratch& scratch) const {
    const AttentionSequence& sequence = block.sequence;
    const HeadRows query = head_of(args_.in.q, sequence.batch, block.h, sequence.first_query);
    pack_positions(query, block.i0, block.count, sequence.queries, shape_.depth, kQueries, scratch.queries);
    Running running;
    for (int g = 0; g < kGroups; ++g) {
      // Finite, so that a query that has seen nothing yet does not compute inf - inf.
      running.max[g] = broadcast(-std::numeric_limits<float>::max() / 2);
      running.sum[g] = Lanes{};
    }
    bool first = true;
    for (std::int64_t j0 = block.begin() / cut.block * cut.block; j0 < block.end(); j0 += cut.block) {
      const std::int64_t n = std::min(cut.block, block.end() - j0);
      if (bias_.has_mask() && !bias_.pack_columns(sequence, block.h, block.i0, block.count, j0, n, kQueries,
                                                  scratch.mask_rows, scratch.mask)) {
        continue;
      }
      multiply({.rows = n,
                .cols = kQueries,
                .tile_rows = cut.panel,
                .a = scratch.keys + (j0 - packed) * shape_.depth,
                .a_step = cut.panel,
                .a_panel = cut.panel * shape_.depth,
                .b = scratch.queries,
                .b_step = kQueries,
                .c = scratch.scores,
                .c_step = kQueries,
                .alpha = scale_},
               [&](auto...) {
                 return Steps{0, shape_.depth};
               });
      if (bias_.any()) add_bias(block, j0, n, scratch);
      softmax_block(block, j0, n, scratch, running, first);
      if (args_.in.dropout > 0) drop(block, j0, n, scratch.scores);
      const std::int64_t tile_rows = balanced_tile_rows(block.count);
      multiply({.rows = block.count,
                .cols = scratch.padded,
                .tile_rows = tile_rows,
                .a = scratch.scores,
                .a_step = kQueries,
                .a_panel = tile_rows,
                .b = scratch.values + (j0 - packed) * scratch.padded,
                .b_step = scratch.padded,
                .c = scratch.out,
                .c_step = scratch.padded,
                .accumulate = !first},
               [&](std::int64_t row, std::int64_t rows, auto...) {
                 const std::int64_t i = block.i0 + row;
                 const std::int64_t from = std::clamp<std::int64_t>(sequence.begin(i) - j0, 0, n);
                 return Steps{from, std::max(from, std::clamp<std::int64_t>(sequence.end(i + rows - 1) - j0, 0, n))};
               });
      if (!strays.empty()) {
        const HeadRows value = head_of(args_.in.v, sequence.batch, block.h / shape_.group, sequence.first_key);
        strays.add(value, j0, j0 + n, block.count, shape_.value_depth, scratch.padded, 1, scratch.stray, scratch.out,
                   [&](std::int64_t r, std::int64_t j) { return scratch.scores[j * kQueries + r]; });
      }
      first = false;
    }
    if (first) std::fill(scratch.out, scratch.out + kQueries * scratch.padded, 0.0F);
    finish(block, scratch, running);
  }

  /// Adds ALiBi and mask to the scores of n keys.
  void add_bias(const QueryBlock& block, std::int64_t j0, std::int64_t n, const Scratch& scratch) const {
    const float slope = bias_.slope(block.sequence, block.h);
    for (std::int64_t j = 0; j < n; ++j) {
      const auto away = static_cast<float>(block.i0 + block.sequence.offset - j0 - j);
      for (int g = 0; g < kGroups; ++g) {
        float* at = scratch.scores + j * kQueries + g * kLanes;
        const Lanes distance = lane_floats() + (away + static_cast<float>(g * kLanes));
        Lanes score = load(at) - maximum(distance, -distance) * slope;
        if (bias_.has_mask()) score = AttentionBias::add(score, load(scratch.mask + j * kQueries + g * kLanes));
        store(at, score);
      }
    }
  }

  /// Turns n rows of scores into exp(score - max), 0 where hidden, and brings the running maximum, sum and output up
  /// to the new maximum.
  void softmax_block(const QueryBlock& block, std::int64_t j0, std::int64_t n, const Scratch& scratch, Running& running,
                     bool first) const {
    const AttentionSequence& sequence = block.sequence;
    for (int g = 0; g < kGroups; ++g) {
      float* scores = scratch.scores + g * kLanes;
      const std::int64_t i = block.i0 + g * kLanes;
      const auto inside = [&](std::int64_t j) { return std::clamp<std::int64_t>(j - j0, 0, n); };
      // Rows [some, none) are visible to a lane, [from, all) to every lane; lane 0 goes ahead on both sides.
      const std::int64_t some = inside(sequence.begin(i));
      const std::int64_t none = std::max(some, inside(sequence.end(i + kLanes - 1)));
      const std::int64_t from = std::min(none, inside(sequence.begin(i + kLanes - 1)));
      const std::int64_t all = std::max(from, inside(sequence.end(i)));
      Lanes max[2] = {running.max[g], running.max[g]};
      // Lane l sees row j when l + low <= j < l + high.
      const auto low = static_cast<std::int32_t>(i + sequence.offset - sequence.left - j0);
      const auto high = static_cast<std::int32_t>(i + sequence.offset + sequence.right + 1 - j0);
      const auto mask_rows = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = begin; j < end; ++j) {
          const auto row = static_cast<std::int32_t>(j);
          const LaneInts sees = (lane_numbers() + low <= row) & (lane_numbers() + high > row);
          const Lanes masked = select(sees, load(scores + j * kQueries), broadcast(kMinusInfinity));
          store(scores + j * kQueries, masked);
          max[0] = maximum(masked, max[0]);
        }
      };
      mask_rows(some, from);
      std::int64_t j = from;
      for (; j + 2 <= all; j += 2) {
        max[0] = maximum(load(scores + j * kQueries), max[0]);
        max[1] = maximum(load(scores + (j + 1) * kQueries), max[1]);
      }
      if (j < all) max[0] = maximum(load(scores + j * kQueries), max[0]);
      mask_rows(all, none);
      const Lanes top = maximum(max[0], max[1]);
      Lanes sum = Lanes{};
      for (j = 0; j < some; ++j) store(scores + j * kQueries, Lanes{});
      for (; j < none; ++j) {
        const Lanes p = exp_difference(load(scores + j * kQueries), top);
        store(scores + j * kQueries, p);
        sum += p;
      }
      for (; j < n; ++j) store(scores + j * kQueries, Lanes{});
      const Lanes correction = exp_difference(running.max[g], top);
      running.sum[g] = running.sum[g] * correction + sum;
      running.max[g] = top;
      if (!first) rescale(scratch, g, correction);
    }
  }

  static void rescale(const Scratch& scratch, int group, Lanes correction) {
    float factors[kLanes];
    store(factors, correction);
    for (int l = 0; l < kLanes; ++l) {
      if (factors[l] == 1.0F) continue;
      float* out = scratch.out + (group * kLanes + l) * scratch.padded;
      for (std::int64_t c = 0; c < scratch.padded; c += kLanes) store(out + c, load(out + c) * factors[l]);
    }
  }

  /// Clears the probabilities that are dropped. A block of four random numbers belongs to four keys of one query, so
  /// the blocks of neighbouring queries, drawn together, give rows of the transposed probabilities.
  void drop(const QueryBlock& block, std::int64_t j0, std::int64_t n, float* scores) const {
    static_assert(kRandomBlocks >= kQueries);
    const RandomState& random = args_.in.random;
    const auto first = random.offset + static_cast<std::uint64_t>(shape_.random_row(block.sequence, block.h, block.i0));
    for (std::int64_t four = j0 / 4; four * 4 < j0 + n; ++four) {
      std::uint32_t words[4 * kRandomBlocks];
      random_words(random.seed, first + static_cast<std::uint64_t>(four),
                   static_cast<std::uint64_t>(shape_.random_blocks()), words);
      for (std::int64_t w = 0; w < 4; ++w) {
        const std::int64_t j = four * 4 + w - j0;
        if (j < 0 || j >= n) continue;
        float* row = scores + j * kQueries;
        const std::uint32_t* bits = words + w * kRandomBlocks;
#pragma omp simd
        for (std::int64_t r = 0; r < kQueries; ++r) row[r] = dropout_keeps(bits[r], threshold_) ? row[r] : 0.0F;
      }
    }
  }

  void finish(const QueryBlock& block, const Scratch& scratch, const Running& running) const {
    float max[kQueries], sum[kQueries];
    for (int g = 0; g < kGroups; ++g) {
      store(max + g * kLanes, running.max[g]);
      store(sum + g * kLanes, running.sum[g]);
    }
    float lse[kQueries];
#pragma omp simd
    for (std::int64_t r = 0; r < kQueries; ++r) lse[r] = max[r] + vm::log(sum[r]);
    float* lse_out = args_.lse.as<float>() + shape_.lse_row(block.sequence, block.h, block.i0);
    const std::int64_t first = block.sequence.first_query + block.i0;
    for (std::int64_t r = 0; r < block.count; ++r) {
      lse_out[r] = lse[r];
      const float factor = sum[r] == 0.0F ? 0.0F : drop_scale_ / sum[r];
      store_position(args_.out, block.sequence.batch, first + r, block.h, scratch.out + r * scratch.padded, factor);
    }
  }

  const Attention::Forward& args_;
  AttentionShape shape_;
  AttentionBias bias_;
  float scale_;
  std::uint32_t threshold_;
  float drop_scale_;
};

}  // namespace

void attention_forward(const Attention::Forward& args) { BlockedForward(args).run(); }

}  // namespace trinix::cpu
