#include <atomic>

#include <trinix/backends/cpu/attention/backward_pair.h>
#include <trinix/backends/cpu/gemm/workspace.h>
#include <trinix/backends/cpu/parallel.h>

// One task per block of the mask's rows. It goes through the heads that share them one after another, so that nobody
// else adds to these rows and the order of the sum is always the same. That costs two products more than writing ds in
// the pass over the keys would, but masks that are learnt are mostly shared.

namespace trinix::cpu {

namespace {

using namespace internal;

/// What a thread needs.
class Scratch {
 public:
  Scratch(const AttentionShape& s, void* memory) {
    Arena arena(memory);
    lay_out(s, [&](float*& piece, std::int64_t count) { piece = arena.take(count); });
  }
  static std::int64_t elements(const AttentionShape& s) {
    Scratch sizes;
    std::int64_t total = 0;
    sizes.lay_out(s, [&](float*&, std::int64_t count) { total += Arena::rounded(count); });
    return total;
  }

  PairScratch pair;
  float *keys_t = nullptr, *values_t = nullptr, *lse = nullptr, *delta = nullptr;  ///< of a block

 private:
  Scratch() = default;
  template <class Take>
  void lay_out(const AttentionShape& s, Take&& take) {
    take(keys_t, kPairKeys * s.depth);
    take(values_t, kPairKeys * s.value_depth);
    take(lse, kPairQueries);
    take(delta, kPairQueries);
    pair.lay_out(s, /*masked=*/true, take);
  }
};

class MaskBackward {
 public:
  explicit MaskBackward(const Attention::Backward& args) : args_(args), pairs_(args), shape_(pairs_.shape()) {}

  void run() {
    const std::int64_t masks = args_.dmask.size(0) * args_.dmask.size(1);
    const std::int64_t blocks = ceil_div(shape_.queries, kPairQueries);
    const double flops = 2.0 * static_cast<double>(shape_.sequences * shape_.heads * shape_.queries) *
                         static_cast<double>(shape_.keys * (shape_.depth + shape_.value_depth));
    const int threads = static_cast<int>(
        std::min<std::int64_t>(threads_for(static_cast<std::int64_t>(flops), std::int64_t{1} << 20), masks * blocks));
    const std::int64_t slice = Scratch::elements(shape_);
    auto* memory = static_cast<float*>(thread_workspace(sizeof(float) * static_cast<std::size_t>(slice * threads)));
    std::atomic<std::int64_t> next{0};
    team(threads, [&](int t, int) {
      const Scratch scratch(shape_, memory + t * slice);
      for (std::int64_t taken = next++; taken < masks * blocks; taken = next++) {
        const std::int64_t task = masks * blocks - 1 - taken;  // later queries see more keys: the long tasks go first
        differentiate(task % masks, task / masks * kPairQueries, scratch);
      }
    });
  }

 private:
  void differentiate(std::int64_t mask, std::int64_t i0, const Scratch& s) const {
    const View& dmask = args_.dmask;
    const std::int64_t mask_heads = dmask.size(1);
    float* sums = dmask.as<float>() + (mask * shape_.queries + i0) * shape_.keys;
    const auto range = [](std::int64_t size, std::int64_t one, std::int64_t all) {
      return size == 1 ? std::pair<std::int64_t, std::int64_t>{0, all} : std::pair{one, one + 1};
    };
    const auto [b_begin, b_end] = range(dmask.size(0), mask / mask_heads, shape_.sequences);
    const auto [h_begin, h_end] = range(mask_heads, mask % mask_heads, shape_.heads);
    for (std::int64_t b = b_begin; b < b_end; ++b) {
      const AttentionSequence sequence = shape_.sequence(b);
      for (std::int64_t h = h_begin; h < h_end; ++h) add_head(sequence, h, i0, sums, s);
    }
  }

  void add_head(const AttentionSequence& sequence, std::int64_t h, std::int64_t i0, float* sums,
                const Scratch& s) const {
    pairs_.prepare(sequence, h, i0, std::min(kPairQueries, sequence.queries - i0), s.pair, s.lse, s.delta);
    const HeadRows keys = head_of(args_.in.k, sequence.batch, h / shape_.group);
    const HeadRows values = head_of(args_.in.v, sequence.batch, h / shape_.group);
    for_each_pair(sequence, h, i0, 0, sequence.keys, [&](const Pair& pair) {
      pack_positions(keys, pair.j0, pair.cols, sequence.keys, shape_.depth, kPairPanel, s.keys_t);
      pack_positions(values, pair.j0, pair.cols, sequence.keys, shape_.value_depth, kPairPanel, s.values_t);
      if (!pairs_.recompute(pair, s.keys_t, s.values_t, s.lse, s.delta, s.pair)) return;
      for (std::int64_t r = 0; r < pair.rows; ++r) {
        const float* ds = s.pair.ds + r * kPairPitch;
        float* to = sums + r * shape_.keys + pair.j0;
#pragma omp simd
        for (std::int64_t c = pair.begin(r); c < pair.end(r); ++c) to[c] += ds[c];
      }
    });
  }

  const Attention::Backward& args_;
  PairBackward pairs_;
  const AttentionShape& shape_;
};

}  // namespace

void attention_mask_backward(const Attention::Backward& args) { MaskBackward(args).run(); }

}  // namespace trinix::cpu
