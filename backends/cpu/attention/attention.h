#pragma once

#include <algorithm>
#include <cstdint>

#include <trinix/core/ops/attention.h>

/// @file
/// Attention on the CPU. The kernels compute in f32; 16-bit operands are widened while they are packed.

namespace trinix::cpu {

/// One sequence of a call: what plays the part of a batch's row. Keys [begin(i), end(i)) are in the band of query i.
struct AttentionSequence {
  [[nodiscard]] std::int64_t begin(std::int64_t i) const {
    return std::clamp<std::int64_t>(i + offset - left, 0, keys);
  }
  [[nodiscard]] std::int64_t end(std::int64_t i) const {
    return std::clamp<std::int64_t>(i + offset + right + 1, 0, keys);
  }

  std::int64_t index = 0;        ///< among all
  std::int64_t batch = 0;        ///< of the operands; 0 where sequences lie one after another
  std::int64_t first_query = 0;  ///< where it begins along the operands' second dim
  std::int64_t first_key = 0;
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  std::int64_t offset = 0;  ///< keys - queries: query i is aligned with key i + offset
  std::int64_t left = 0;    ///< how far the band reaches from there
  std::int64_t right = 0;
};

/// The sizes of one call, and who sees whom.
struct AttentionShape {
  explicit AttentionShape(const Attention::Inputs& in)
      : several(in.query_starts.defined),
        sequences(several ? in.query_starts.size(0) - 1 : in.q.size(0)),
        queries(several ? in.longest_query : in.q.size(1)),
        keys(several ? in.longest_key : in.k.size(1)),
        rows(in.q.size(1)),
        heads(in.q.size(2)),
        key_heads(in.k.size(2)),
        depth(in.q.size(3)),
        value_depth(in.v.size(3)),
        group(heads / key_heads),
        left(reach(in.window_left)),
        right(in.causal ? 0 : reach(in.window_right)),
        query_starts(in.query_starts.as<std::int32_t>()),
        key_starts(in.key_starts.as<std::int32_t>()) {}

  [[nodiscard]] AttentionSequence sequence(std::int64_t n) const {
    AttentionSequence s;
    s.index = n;
    s.left = left;
    s.right = right;
    if (several) {
      s.first_query = query_starts[n];
      s.first_key = key_starts[n];
      s.queries = query_starts[n + 1] - s.first_query;
      s.keys = key_starts[n + 1] - s.first_key;
    } else {
      s.batch = n;
      s.queries = queries;
      s.keys = keys;
    }
    s.offset = s.keys - s.queries;
    return s;
  }
  /// Blocks of four random numbers that a row of probabilities takes, and where those of query i begin.
  [[nodiscard]] std::int64_t random_blocks() const { return (keys + 3) / 4; }
  [[nodiscard]] std::int64_t random_row(const AttentionSequence& s, std::int64_t h, std::int64_t i) const {
    return ((s.index * heads + h) * queries + i) * random_blocks();
  }
  /// Where lse of query i stands.
  [[nodiscard]] std::int64_t lse_row(const AttentionSequence& s, std::int64_t h, std::int64_t i) const {
    return (s.batch * heads + h) * rows + s.first_query + i;
  }

  bool several;  ///< lengths
  std::int64_t sequences;
  std::int64_t queries, keys;  ///< of the longest sequence
  std::int64_t rows;           ///< queries along the operands' second dim
  std::int64_t heads, key_heads, depth, value_depth;
  std::int64_t group;        ///< query heads that share a key head
  std::int64_t left, right;  ///< the band of every sequence

 private:
  /// No limit reaches everything.
  [[nodiscard]] std::int64_t reach(std::int64_t window) const {
    const std::int64_t all = queries + keys;
    return window < 0 ? all : std::min(window, all);
  }

  const std::int32_t* query_starts;
  const std::int32_t* key_starts;
};

/// Blocked, for any number of queries.
void attention_forward(const Attention::Forward& args);
/// For a few queries, such as the one of a step of generation: reads keys and values where they lie. No dropout.
void attention_few_queries(const Attention::Forward& args);
void attention_backward(const Attention::Backward& args);
/// dmask alone, which is a sum over whatever shares the mask, in an order that does not depend on the threads.
void attention_mask_backward(const Attention::Backward& args);

}  // namespace trinix::cpu
