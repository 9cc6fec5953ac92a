#include <algorithm>
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
    // By task and row: output, then maximum and sum. By thread: queries, scores, and a row of the mask.
    const std::int64_t results = Arena::rounded(padded_) + Arena::rounded(2);
    const std::int64_t pitch = Arena::rounded(shape_.keys + kLanes);
    const std::int64_t own = Arena::rounded(rows_ * padded_depth_) + (rows_ + (bias_.has_mask() ? 1 : 0)) * pitch;
    const std::int64_t total = tasks_ * rows_ * results + threads_ * own;
    auto* memory = static_cast<float*>(thread_workspace(sizeof(float) * static_cast<std::size_t>(total)));
    const auto out_of = [&](std::int64_t task, std::int64_t row) { return memory + (task * rows_ + row) * results; };
    const auto part_of = [&](std::int64_t task, std::int64_t row) {
      return reinterpret_cast<Part*>(out_of(task, row) + Arena::rounded(padded_));
    };
    team(threads_, [&](int t, int members) {
      float* queries = memory + tasks_ * rows_ * results + t * own;
      const Scores scores{queries + Arena::rounded(rows_ * padded_depth_), pitch, rows_};
      for (std::int64_t task = tasks_ * t / members; task < tasks_ * (t + 1) / members; ++task) {
        const AttentionSequence sequence = shape_.sequence(task / parts_ / shape_.key_heads);
        const std::int64_t hk = task / parts_ % shape_.key_heads;
        for (std::int64_t g = 0; g < shape_.group; ++g) {
          const HeadRows query = head_of(args_.in.q, sequence.batch, hk * shape_.group + g, sequence.first_query);
          pack_components(query, 0, sequence.queries, shape_.depth, padded_depth_,
                          queries + g * sequence.queries * padded_depth_);
        }
        if (sequence.queries == 0) continue;
        // Shared out are the keys that some of the queries see.
        const std::int64_t first = sequence.begin(0);
        const std::int64_t seen = std::max<std::int64_t>(sequence.end(sequence.queries - 1) - first, 0);
        const std::int64_t part = task % parts_;
        const KeyRange range{first + seen * part / parts_, first + seen * (part + 1) / parts_};
        attend(
            sequence, hk, range, queries, scores, [&](std::int64_t r) { return out_of(task, r); },
            [&](std::int64_t r) { return part_of(task, r); });
      }
    });
    for (std::int64_t head = 0; head < key_heads_; ++head) {
      const std::int64_t rows = shape_.group * shape_.sequence(head / shape_.key_heads).queries;
      for (std::int64_t row = 0; row < rows; ++row) join(head, row, out_of, part_of);
    }
  }

 private:
  struct KeyRange {
    std::int64_t begin, end;
  };

  /// Scores of each query, and behind them a row of the mask.
  struct Scores {
    float* data;
    std::int64_t pitch, rows;
    [[nodiscard]] float* row(std::int64_t r) const { return data + r * pitch; }
    [[nodiscard]] float* mask() const { return row(rows); }
  };

  /// All queries that share a key head against a range of keys. A few keys at a time meet every query, while they are
  /// in the nearest cache.
  template <class OutOf, class PartOf>
  void attend(const AttentionSequence& sequence, std::int64_t hk, const KeyRange& range, const float* queries,
              const Scores& scores, OutOf&& out_of, PartOf&& part_of) const {
    const HeadRows keys = head_of(args_.in.k, sequence.batch, hk, sequence.first_key + range.begin);
    const HeadRows values = head_of(args_.in.v, sequence.batch, hk, sequence.first_key + range.begin);
    const std::int64_t rows = shape_.group * sequence.queries;
    const std::int64_t count = range.end - range.begin;
    for (std::int64_t j = 0; j < count; j += kLanes) {
      for (std::int64_t r = 0; r < rows; ++r) {
        store(scores.row(r) + j,
              score(queries + r * padded_depth_, keys, j, std::min<std::int64_t>(kLanes, count - j)));
      }
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t i = r % sequence.queries;
      float* row = scores.row(r);
      if (bias_.any()) add_bias(sequence, hk * shape_.group + r / sequence.queries, i, range, row, scores.mask());
      const auto hide = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = std::max<std::int64_t>(begin, 0); j < end; ++j) row[j] = kMinusInfinity;
      };
      hide(0, std::min(sequence.begin(i) - range.begin, count));
      // Lanes behind the last key of this range hold no score, wherever the query's last key lies.
      hide(std::min(sequence.end(i) - range.begin, count), round_up(count, kLanes));
      *part_of(r) = softmax(row, count);
      std::fill(out_of(r), out_of(r) + padded_, 0.0F);
    }
    for (std::int64_t j = 0; j < count; j += kLanes) {
      const std::int64_t n = std::min<std::int64_t>(kLanes, count - j);
      for (std::int64_t r = 0; r < rows; ++r) add_values(scores.row(r) + j, values, j, n, out_of(r));
    }
  }

  /// Scores of one query and n keys from number j on.
  Lanes score(const float* query, const HeadRows& keys, std::int64_t j, std::int64_t n) const {
    Lanes partial[kLanes] = {};
    float rest[kLanes] = {};
    const std::int64_t whole = keys.col == 1 ? shape_.depth / kLanes * kLanes : 0;
    for (std::int64_t l = 0; l < n; ++l) {
      const T* key = static_cast<const T*>(keys.data) + (j + l) * keys.row;
      Lanes sum[2] = {};
      std::int64_t c = 0;
      for (; c + 2 * kLanes <= whole; c += 2 * kLanes) {
        sum[0] += load(query + c) * load_as(key + c, 0.0F);
        sum[1] += load(query + c + kLanes) * load_as(key + c + kLanes, 0.0F);
      }
      if (c < whole) sum[0] += load(query + c) * load_as(key + c, 0.0F);
      partial[l] = sum[0] + sum[1];
      for (c = whole; c < shape_.depth; ++c) rest[l] += query[c] * static_cast<float>(key[c * keys.col]);
    }
    transpose<float>(partial);
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) partial[l] += partial[l + half];
    }
    return (partial[0] + load(rest)) * static_cast<float>(args_.in.scale);
  }

  /// Adds ALiBi and mask to the scores of one query.
  void add_bias(const AttentionSequence& sequence, std::int64_t h, std::int64_t i, const KeyRange& range, float* row,
                float* mask) const {
    const float slope = bias_.slope(sequence, h);
    const std::int64_t count = range.end - range.begin;
    if (bias_.has_mask()) bias_.pack_rows(sequence, h, i, 1, range.begin, count, round_up(count, kLanes), mask);
    for (std::int64_t j = 0; j < count; j += kLanes) {
      const Lanes away = lane_floats() - static_cast<float>(i + sequence.offset - range.begin - j);
      Lanes score = load(row + j) - maximum(away, -away) * slope;
      if (bias_.has_mask()) score = AttentionBias::add(score, load(mask + j));
      store(row + j, score);
    }
  }

  /// From `count` scores, and -inf up to a whole vector, to exp(score - max).
  static Part softmax(float* row, std::int64_t count) {
    Lanes top = broadcast(-std::numeric_limits<float>::max() / 2);
    for (std::int64_t j = 0; j < count; j += kLanes) top = maximum(load(row + j), top);
    float max = -std::numeric_limits<float>::max() / 2;
    for (int l = 0; l < kLanes; ++l) max = std::max(max, top[l]);
    Lanes sum = {};
    for (std::int64_t j = 0; j < count; j += kLanes) {
      const Lanes p = exp_difference(load(row + j), broadcast(max));
      store(row + j, p);
      sum += p;
    }
    return {max, horizontal_sum<float>(sum)};
  }

  /// out += the sum of p times n values from number j on. What is hidden has p = 0, and may hold NaN.
  void add_values(const float* p, const HeadRows& values, std::int64_t j, std::int64_t n, float* out) const {
    const T* from = static_cast<const T*>(values.data) + j * values.row;
    const std::int64_t whole = values.col == 1 ? shape_.value_depth / kLanes * kLanes : 0;
    if (std::all_of(p, p + n, [](float x) { return x != 0.0F; })) {
      for (std::int64_t c = 0; c < whole; c += kLanes) {
        Lanes sum = load(out + c);
        for (std::int64_t l = 0; l < n; ++l) sum += load_as(from + l * values.row + c, 0.0F) * p[l];
        store(out + c, sum);
      }
    } else {
      for (std::int64_t l = 0; l < n; ++l) {
        if (p[l] == 0.0F) continue;
        for (std::int64_t c = 0; c < whole; c += kLanes) {
          store(out + c, load(out + c) + load_as(from + l * values.row + c, 0.0F) * p[l]);
        }
      }
    }
    if (whole == shape_.value_depth) return;
    for (std::int64_t l = 0; l < n; ++l) {
      if (p[l] == 0.0F) continue;
      const T* value = from + l * values.row;
      for (std::int64_t c = whole; c < shape_.value_depth; ++c) {
        out[c] += p[l] * static_cast<float>(value[c * values.col]);
      }
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
