#include <atomic>
#include <cmath>

#include <trinix/backends/cpu/attention/attention.h>
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
  explicit KeyBlocks(std::int64_t keys) : panel(balanced_tile_rows(std::min(keys, kKeys))) {
    const std::int64_t panels = ceil_div(keys, panel);
    const std::int64_t count = ceil_div(keys, kKeys);
    block = ceil_div(panels, count) * panel;
  }
  std::int64_t panel;
  std::int64_t block;
};

/// What a thread needs for one key head.
struct Scratch {
  Scratch(const AttentionShape& s, const KeyBlocks& blocks, void* memory) : padded(round_up(s.value_depth, kLanes)) {
    Arena arena(memory);
    keys = arena.take(round_up(s.keys, blocks.panel) * s.depth + kPanelSlack<float>);
    values = arena.take(s.keys * padded);
    queries = arena.take(s.depth * kQueries);
    scores = arena.take(blocks.block * kQueries);
    out = arena.take(kQueries * padded);
  }
  static std::int64_t elements(const AttentionShape& s, const KeyBlocks& blocks) {
    const std::int64_t padded = round_up(s.value_depth, kLanes);
    return Arena::rounded(round_up(s.keys, blocks.panel) * s.depth + kPanelSlack<float>) +
           Arena::rounded(s.keys * padded) + Arena::rounded(s.depth * kQueries) +
           Arena::rounded(blocks.block * kQueries) + Arena::rounded(kQueries * padded);
  }

  std::int64_t padded;  ///< components of V, rounded up to vectors
  float* keys;
  float* values;
  float* queries;
  float* scores;
  float* out;
};

/// Largest score and sum of exponentials of each query of a block so far.
struct Running {
  Lanes max[kGroups];
  Lanes sum[kGroups];
};

class BlockedForward {
 public:
  explicit BlockedForward(const Attention::Forward& args)
      : args_(args),
        shape_(args.in),
        blocks_(shape_.keys),
        query_blocks_(ceil_div(shape_.queries, kQueries)),
        scale_(static_cast<float>(args.in.scale) * kLog2E),
        threshold_(dropout_threshold(args.in.dropout)),
        drop_scale_(static_cast<float>(dropout_scale(args.in.dropout))) {}

  void run() {
    const std::int64_t key_heads = shape_.batch * shape_.key_heads;
    const std::int64_t units = shape_.group * query_blocks_;  // blocks of queries that share a key head
    const double flops = 2.0 * static_cast<double>(shape_.batch * shape_.heads * shape_.queries) *
                         static_cast<double>(shape_.keys * (shape_.depth + shape_.value_depth));
    const int wanted = threads_for(static_cast<std::int64_t>(flops), std::int64_t{1} << 20);
    // Every chunk packs the keys and values again, so a key head is only split when there are too few of them.
    const std::int64_t chunks = wanted == 1 ? 1 : std::clamp<std::int64_t>(ceil_div(4 * wanted, key_heads), 1, units);
    const std::int64_t tasks = key_heads * chunks;
    const int threads = static_cast<int>(std::min<std::int64_t>(wanted, tasks));
    const std::int64_t slice = Scratch::elements(shape_, blocks_);
    auto* memory = static_cast<float*>(thread_workspace(sizeof(float) * static_cast<std::size_t>(slice * threads)));
    std::atomic<std::int64_t> next{0};
    team(threads, [&](int t, int) {
      const Scratch scratch(shape_, blocks_, memory + t * slice);
      for (std::int64_t taken = next++; taken < tasks; taken = next++) {
        // Later queries see more keys: the long tasks go first.
        const std::int64_t task = tasks - 1 - taken;
        const std::int64_t chunk = task % chunks;
        attend(task / chunks, units * chunk / chunks, units * (chunk + 1) / chunks, scratch);
      }
    });
  }

 private:
  /// Units [begin, end) of one key head; unit u is query block u % query_blocks_ of the group's head u / query_blocks_.
  void attend(std::int64_t key_head, std::int64_t begin, std::int64_t end, const Scratch& scratch) const {
    const std::int64_t b = key_head / shape_.key_heads;
    const std::int64_t hk = key_head % shape_.key_heads;
    const bool one_head = begin / query_blocks_ == (end - 1) / query_blocks_;
    const std::int64_t last_block = one_head ? (end - 1) % query_blocks_ : query_blocks_ - 1;
    const std::int64_t keys = shape_.visible(std::min(shape_.queries, (last_block + 1) * kQueries) - 1);
    pack_positions(head_of(args_.in.k, b, hk), 0, keys, shape_.keys, shape_.depth, blocks_.panel, scratch.keys);
    if (keys > 0) {
      pack_components(head_of(args_.in.v, b, hk), 0, keys, shape_.value_depth, scratch.padded, scratch.values);
    }
    for (std::int64_t u = begin; u < end; ++u) {
      attend_block(b, hk * shape_.group + u / query_blocks_, u % query_blocks_ * kQueries, scratch);
    }
  }

  void attend_block(std::int64_t b, std::int64_t h, std::int64_t i0, const Scratch& scratch) const {
    const std::int64_t count = std::min(kQueries, shape_.queries - i0);
    const std::int64_t keys = shape_.visible(i0 + count - 1);
    pack_positions(head_of(args_.in.q, b, h), i0, count, shape_.queries, shape_.depth, kQueries, scratch.queries);
    Running running;
    for (int g = 0; g < kGroups; ++g) {
      // Finite, so that a query that has seen nothing yet does not compute inf - inf.
      running.max[g] = broadcast(-std::numeric_limits<float>::max() / 2);
      running.sum[g] = Lanes{};
    }
    for (std::int64_t j0 = 0; j0 == 0 || j0 < keys; j0 += blocks_.block) {
      const std::int64_t n = std::min(blocks_.block, keys - j0);
      multiply({.rows = n,
                .cols = kQueries,
                .tile_rows = blocks_.panel,
                .a = scratch.keys + j0 * shape_.depth,
                .a_step = blocks_.panel,
                .a_panel = blocks_.panel * shape_.depth,
                .b = scratch.queries,
                .b_step = kQueries,
                .c = scratch.scores,
                .c_step = kQueries,
                .alpha = scale_},
               [&](auto...) {
                 return Steps{0, shape_.depth};
               });
      softmax_block(i0, j0, n, scratch, running, j0 == 0);
      if (args_.in.dropout > 0) drop(b, h, i0, j0, n, scratch.scores);
      const std::int64_t tile_rows = balanced_tile_rows(count);
      multiply({.rows = count,
                .cols = scratch.padded,
                .tile_rows = tile_rows,
                .a = scratch.scores,
                .a_step = kQueries,
                .a_panel = tile_rows,
                .b = scratch.values + j0 * scratch.padded,
                .b_step = scratch.padded,
                .c = scratch.out,
                .c_step = scratch.padded,
                .accumulate = j0 > 0},
               [&](std::int64_t row, std::int64_t rows, auto...) {
                 return Steps{0, std::clamp<std::int64_t>(shape_.visible(i0 + row + rows - 1) - j0, 0, n)};
               });
    }
    finish(b, h, i0, count, scratch, running);
  }

  /// Turns n rows of scores into exp2(score - max), 0 where masked, and brings the running maximum, sum and output up
  /// to the new maximum.
  void softmax_block(std::int64_t i0, std::int64_t j0, std::int64_t n, const Scratch& scratch, Running& running,
                     bool first) const {
    for (int g = 0; g < kGroups; ++g) {
      float* scores = scratch.scores + g * kLanes;
      const std::int64_t i = i0 + g * kLanes;
      const auto seen_by = [&](std::int64_t q) { return std::clamp<std::int64_t>(shape_.visible(q) - j0, 0, n); };
      const std::int64_t all = seen_by(i);                // rows [0, all) are visible to every lane
      const std::int64_t some = seen_by(i + kLanes - 1);  // rows from here on to none
      Lanes max[2] = {running.max[g], running.max[g]};
      std::int64_t j = 0;
      for (; j + 2 <= all; j += 2) {
        max[0] = maximum(load(scores + j * kQueries), max[0]);
        max[1] = maximum(load(scores + (j + 1) * kQueries), max[1]);
      }
      if (j < all) max[0] = maximum(load(scores + j * kQueries), max[0]);
      // Lane l sees row j when j < l + (visible to lane 0, were the number of keys no limit).
      const LaneInts limit = lane_numbers() + static_cast<std::int32_t>(i + shape_.keys - shape_.queries + 1 - j0);
      for (j = all; j < some; ++j) {
        const LaneInts sees = limit > static_cast<std::int32_t>(j);
        const Lanes masked = select(sees, load(scores + j * kQueries), broadcast(kMinusInfinity));
        store(scores + j * kQueries, masked);
        max[0] = maximum(masked, max[0]);
      }
      const Lanes top = maximum(max[0], max[1]);
      Lanes sum = Lanes{};
      for (j = 0; j < some; ++j) {
        const Lanes p = exp2(load(scores + j * kQueries) - top);
        store(scores + j * kQueries, p);
        sum += p;
      }
      for (; j < n; ++j) store(scores + j * kQueries, Lanes{});
      const Lanes correction = exp2(running.max[g] - top);
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
  void drop(std::int64_t b, std::int64_t h, std::int64_t i0, std::int64_t j0, std::int64_t n, float* scores) const {
    static_assert(kRandomBlocks >= kQueries);
    const RandomState& random = args_.in.random;
    const auto first = random.offset + static_cast<std::uint64_t>(shape_.random_row(b, h, i0));
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

  void finish(std::int64_t b, std::int64_t h, std::int64_t i0, std::int64_t count, const Scratch& scratch,
              const Running& running) const {
    float max[kQueries], sum[kQueries];
    for (int g = 0; g < kGroups; ++g) {
      store(max + g * kLanes, running.max[g]);
      store(sum + g * kLanes, running.sum[g]);
    }
    float lse[kQueries];
#pragma omp simd
    for (std::int64_t r = 0; r < kQueries; ++r) lse[r] = max[r] * kLn2 + vm::log(sum[r]);
    float* lse_out = args_.lse.as<float>() + (b * shape_.heads + h) * shape_.queries + i0;
    for (std::int64_t r = 0; r < count; ++r) {
      lse_out[r] = lse[r];
      const float factor = sum[r] == 0.0F ? 0.0F : drop_scale_ / sum[r];
      store_position(args_.out, b, i0 + r, h, scratch.out + r * scratch.padded, factor);
    }
  }

  const Attention::Forward& args_;
  AttentionShape shape_;
  KeyBlocks blocks_;
  std::int64_t query_blocks_;
  float scale_;  ///< for exponentials to the base 2
  std::uint32_t threshold_;
  float drop_scale_;
};

}  // namespace

void attention_forward(const Attention::Forward& args) { BlockedForward(args).run(); }

}  // namespace trinix::cpu
