#include <cmath>

#include <trinix/backends/cpu/attention/attention.h>
#include <trinix/backends/cpu/attention/bias.h>
#include <trinix/backends/cpu/attention/tile_product.h>
#include <trinix/backends/cpu/gemm/workspace.h>
#include <trinix/backends/cpu/parallel.h>
#include <trinix/backends/dispatch.h>

// A step of generation attends with one query to many keys: every key and value is used once, so the work is to read
// them. The keys of a head are cut into parts when there are fewer heads than threads; the parts are joined in order.

namespace trinix::cpu {

namespace {

using namespace internal;

/// The softmax of one query over one part of the keys: its share of the output is out / sum.
struct Part {
  float max;
  float sum;
};

template <class T>
class FewQueries {
 public:
  explicit FewQueries(const Attention::Forward& args)
      : args_(args),
        shape_(args.in),
        bias_(args.in),
        key_heads_(shape_.sequences * shape_.key_heads),
        padded_depth_(round_up(shape_.depth, kLanes)),
        padded_(round_up(shape_.value_depth, kLanes)),
        rows_(shape_.group * shape_.queries) {
    const std::int64_t work = key_heads_ * rows_ * shape_.keys * (shape_.depth + shape_.value_depth);
    const int wanted = threads_for(work, kGrain);
    parts_ = std::clamp<std::int64_t>(wanted / key_heads_, 1, ceil_div(shape_.keys, 256));
    tasks_ = key_heads_ * parts_;
    threads_ = static_cast<int>(std::min<std::int64_t>(wanted, tasks_));
  }

  void run() {
    // By task and row: output, then maximum and sum. By thread: queries and scores.
    const std::int64_t results = Arena::rounded(padded_) + Arena::rounded(2);
    const std::int64_t scores = Arena::rounded(shape_.keys + kLanes);
    const std::int64_t own = Arena::rounded(rows_ * padded_depth_) + (bias_.has_mask() ? 2 : 1) * scores;
    const std::int64_t total = tasks_ * rows_ * results + threads_ * own;
    auto* memory = static_cast<float*>(thread_workspace(sizeof(float) * static_cast<std::size_t>(total)));
    const auto out_of = [&](std::int64_t task, std::int64_t row) { return memory + (task * rows_ + row) * results; };
    const auto part_of = [&](std::int64_t task, std::int64_t row) {
      return reinterpret_cast<Part*>(out_of(task, row) + Arena::rounded(padded_));
    };
    team(threads_, [&](int t, int members) {
      float* queries = memory + tasks_ * rows_ * results + t * own;
      const Row row{queries + Arena::rounded(rows_ * padded_depth_), scores};
      for (std::int64_t task = tasks_ * t / members; task < tasks_ * (t + 1) / members; ++task) {
        const AttentionSequence sequence = shape_.sequence(task / parts_ / shape_.key_heads);
        const std::int64_t hk = task / parts_ % shape_.key_heads;
        const std::int64_t part = task % parts_;
        for (std::int64_t g = 0; g < shape_.group; ++g) {
          const HeadRows query = head_of(args_.in.q, sequence.batch, hk * shape_.group + g, sequence.first_query);
          pack_components(query, 0, sequence.queries, shape_.depth, padded_depth_,
                          queries + g * sequence.queries * padded_depth_);
        }
        for (std::int64_t r = 0; r < shape_.group * sequence.queries; ++r) {
          const std::int64_t i = r % sequence.queries;
          const std::int64_t begin = sequence.begin(i);
          const std::int64_t seen = std::max<std::int64_t>(sequence.end(i) - begin, 0);
          *part_of(task, r) = attend(sequence, hk, r, queries + r * padded_depth_, begin + seen * part / parts_,
                                     begin + seen * (part + 1) / parts_, row, out_of(task, r));
        }
      }
    });
    for (std::int64_t head = 0; head < key_heads_; ++head) {
      const std::int64_t rows = shape_.group * shape_.sequence(head / shape_.key_heads).queries;
      for (std::int64_t row = 0; row < rows; ++row) join(head, row, out_of, part_of);
    }
  }

 private:
  /// Scores of one query, and behind them its row of the mask.
  struct Row {
    float* scores;
    std::int64_t pitch;
    [[nodiscard]] float* mask() const { return scores + pitch; }
  };

  /// One query, number `r` of those that share the key head, against keys [begin, end).
  Part attend(const AttentionSequence& sequence, std::int64_t hk, std::int64_t r, const float* query,
              std::int64_t begin, std::int64_t end, const Row& row, float* out) const {
    const HeadRows keys = head_of(args_.in.k, sequence.batch, hk, sequence.first_key);
    const HeadRows values = head_of(args_.in.v, sequence.batch, hk, sequence.first_key);
    const auto scale = static_cast<float>(args_.in.scale);
    const std::int64_t count = end - begin;
    for (std::int64_t j = 0; j < count; ++j) {
      row.scores[j] = scale * dot(query, static_cast<const T*>(keys.data) + (begin + j) * keys.row, keys.col);
    }
    if (bias_.any())
      add_bias(sequence, hk * shape_.group + r / sequence.queries, r % sequence.queries, begin, count, row);
    float max = -std::numeric_limits<float>::max() / 2;
    for (std::int64_t j = 0; j < count; ++j) max = row.scores[j] > max ? row.scores[j] : max;
    std::fill(out, out + padded_, 0.0F);
    float sum = 0;
    for (std::int64_t at = 0; at < count; at += kLanes) {
      const std::int64_t n = std::min<std::int64_t>(kLanes, count - at);
      float p[kLanes];
      for (std::int64_t l = 0; l < kLanes; ++l) p[l] = l < n ? row.scores[at + l] : kMinusInfinity;
      store(p, exp_difference(load(p), broadcast(max)));
      for (std::int64_t l = 0; l < n; ++l) {
        if (row.scores[at + l] == kMinusInfinity) continue;  // a hidden value may be NaN
        sum += p[l];
        add(out, static_cast<const T*>(values.data) + (begin + at + l) * values.row, values.col, p[l]);
      }
    }
    return {max, sum};
  }

  /// Adds ALiBi and mask to the scores of `count` keys from `begin`.
  void add_bias(const AttentionSequence& sequence, std::int64_t h, std::int64_t i, std::int64_t begin,
                std::int64_t count, const Row& row) const {
    const float slope = bias_.slope(sequence, h);
    if (bias_.has_mask()) bias_.pack_rows(sequence, h, i, 1, begin, count, round_up(count, kLanes), row.mask());
    for (std::int64_t j = 0; j < count; j += kLanes) {
      const Lanes away = lane_floats() - static_cast<float>(i + sequence.offset - begin - j);
      Lanes score = load(row.scores + j) - maximum(away, -away) * slope;
      if (bias_.has_mask()) score = AttentionBias::add(score, load(row.mask() + j));
      store(row.scores + j, score);
    }
  }

  float dot(const float* query, const T* key, std::int64_t step) const {
    Lanes total[2] = {};
    std::int64_t c = 0;
    float rest = 0;
    if (step == 1) {
      for (; c + 2 * kLanes <= shape_.depth; c += 2 * kLanes) {
        total[0] += load(query + c) * load_as(key + c, 0.0F);
        total[1] += load(query + c + kLanes) * load_as(key + c + kLanes, 0.0F);
      }
    }
    for (; c < shape_.depth; ++c) rest += query[c] * static_cast<float>(key[c * step]);
    return horizontal_sum<float>(total[0] + total[1]) + rest;
  }

  void add(float* out, const T* value, std::int64_t step, float p) const {
    const std::int64_t n = shape_.value_depth;
    if (step == 1) {
#pragma omp simd
      for (std::int64_t c = 0; c < n; ++c) out[c] += p * static_cast<float>(value[c]);
    } else {
      for (std::int64_t c = 0; c < n; ++c) out[c] += p * static_cast<float>(value[c * step]);
    }
  }

  template <class OutOf, class PartOf>
  void join(std::int64_t head, std::int64_t row, const OutOf& out_of, const PartOf& part_of) const {
    const std::int64_t first = head * parts_;
    float max = part_of(first, row)->max;
    for (std::int64_t p = 1; p < parts_; ++p) max = std::max(max, part_of(first + p, row)->max);
    float* out = out_of(first, row);
    float sum = 0;
    for (std::int64_t p = 0; p < parts_; ++p) {
      const Part part = *part_of(first + p, row);
      const float weight = std::exp(part.max - max);
      const float* from = out_of(first + p, row);
      sum += weight * part.sum;
      for (std::int64_t c = 0; c < padded_; ++c) out[c] = weight * from[c] + (p == 0 ? 0.0F : out[c]);
    }
    const AttentionSequence sequence = shape_.sequence(head / shape_.key_heads);
    const std::int64_t h = head % shape_.key_heads * shape_.group + row / sequence.queries;
    const std::int64_t i = row % sequence.queries;
    args_.lse.as<float>()[shape_.lse_row(sequence, h, i)] = max + std::log(sum);
    store_position<T>(args_.out, sequence.batch, sequence.first_query + i, h, out, sum == 0.0F ? 0.0F : 1 / sum);
  }

  const Attention::Forward& args_;
  AttentionShape shape_;
  AttentionBias bias_;
  std::int64_t key_heads_, padded_depth_, padded_;
  std::int64_t rows_;  ///< queries that share a key head, at most
  std::int64_t parts_ = 1, tasks_ = 1;
  int threads_ = 1;
};

}  // namespace

void attention_few_queries(const Attention::Forward& args) {
  switch (args.in.q.dtype) {
    case DType::f32:
      return FewQueries<float>(args).run();
    case DType::bf16:
      return FewQueries<bfloat16>(args).run();
    default:
      return FewQueries<float16>(args).run();
  }
}

}  // namespace trinix::cpu
