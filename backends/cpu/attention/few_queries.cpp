#include <cmath>

#include <trinix/backends/cpu/attention/attention.h>
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
        key_heads_(shape_.batch * shape_.key_heads),
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
    const std::int64_t own = Arena::rounded(rows_ * padded_depth_) + Arena::rounded(shape_.keys);
    const std::int64_t total = tasks_ * rows_ * results + threads_ * own;
    auto* memory = static_cast<float*>(thread_workspace(sizeof(float) * static_cast<std::size_t>(total)));
    const auto out_of = [&](std::int64_t task, std::int64_t row) { return memory + (task * rows_ + row) * results; };
    const auto part_of = [&](std::int64_t task, std::int64_t row) {
      return reinterpret_cast<Part*>(out_of(task, row) + Arena::rounded(padded_));
    };
    team(threads_, [&](int t, int members) {
      float* queries = memory + tasks_ * rows_ * results + t * own;
      float* scores = queries + Arena::rounded(rows_ * padded_depth_);
      for (std::int64_t task = tasks_ * t / members; task < tasks_ * (t + 1) / members; ++task) {
        const std::int64_t b = task / parts_ / shape_.key_heads;
        const std::int64_t hk = task / parts_ % shape_.key_heads;
        const std::int64_t part = task % parts_;
        for (std::int64_t g = 0; g < shape_.group; ++g) {
          pack_components(head_of(args_.in.q, b, hk * shape_.group + g), 0, shape_.queries, shape_.depth, padded_depth_,
                          queries + g * shape_.queries * padded_depth_);
        }
        for (std::int64_t row = 0; row < rows_; ++row) {
          const std::int64_t seen = shape_.visible(row % shape_.queries);
          const std::int64_t begin = std::min(shape_.keys * part / parts_, seen);
          const std::int64_t end = std::min(shape_.keys * (part + 1) / parts_, seen);
          *part_of(task, row) = attend(b, hk, queries + row * padded_depth_, begin, end, scores, out_of(task, row));
        }
      }
    });
    for (std::int64_t head = 0; head < key_heads_; ++head) {
      for (std::int64_t row = 0; row < rows_; ++row) join(head, row, out_of, part_of);
    }
  }

 private:
  /// One query against keys [begin, end).
  Part attend(std::int64_t b, std::int64_t hk, const float* query, std::int64_t begin, std::int64_t end, float* scores,
              float* out) const {
    const HeadRows keys = head_of(args_.in.k, b, hk);
    const HeadRows values = head_of(args_.in.v, b, hk);
    const float scale = static_cast<float>(args_.in.scale) * kLog2E;
    float max = -std::numeric_limits<float>::max() / 2;
    for (std::int64_t j = begin; j < end; ++j) {
      const T* key = static_cast<const T*>(keys.data) + j * keys.row;
      const float score = scale * dot(query, key, keys.col);
      scores[j - begin] = score;
      max = score > max ? score : max;
    }
    std::fill(out, out + padded_, 0.0F);
    float sum = 0;
    for (std::int64_t at = 0; at < end - begin; at += kLanes) {
      const std::int64_t n = std::min<std::int64_t>(kLanes, end - begin - at);
      float p[kLanes];
      for (std::int64_t l = 0; l < kLanes; ++l) p[l] = l < n ? scores[at + l] - max : kMinusInfinity;
      store(p, exp2(load(p)));
      for (std::int64_t l = 0; l < n; ++l) {
        sum += p[l];
        add(out, static_cast<const T*>(values.data) + (begin + at + l) * values.row, values.col, p[l]);
      }
    }
    return {max, sum};
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
      const float weight = std::exp2(part.max - max);
      const float* from = out_of(first + p, row);
      sum += weight * part.sum;
      for (std::int64_t c = 0; c < padded_; ++c) out[c] = weight * from[c] + (p == 0 ? 0.0F : out[c]);
    }
    const std::int64_t b = head / shape_.key_heads;
    const std::int64_t h = head % shape_.key_heads * shape_.group + row / shape_.queries;
    const std::int64_t i = row % shape_.queries;
    args_.lse.as<float>()[(b * shape_.heads + h) * shape_.queries + i] = max * kLn2 + std::log(sum);
    store_position<T>(args_.out, b, i, h, out, sum == 0.0F ? 0.0F : 1 / sum);
  }

  const Attention::Forward& args_;
  AttentionShape shape_;
  std::int64_t key_heads_, padded_depth_, padded_;
  std::int64_t rows_;  ///< queries that share a key head
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
