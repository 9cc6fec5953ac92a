#pragma once

#include <algorithm>
#include <cstdint>

#include <trinix/core/ops/attention.h>

/// @file
/// Attention on the CPU. The kernels compute in f32; 16-bit operands are widened while they are packed.

namespace trinix::cpu {

/// The sizes of one call, and who sees whom.
struct AttentionShape {
  explicit AttentionShape(const Attention::Inputs& in)
      : batch(in.q.size(0)),
        queries(in.q.size(1)),
        keys(in.k.size(1)),
        heads(in.q.size(2)),
        key_heads(in.k.size(2)),
        depth(in.q.size(3)),
        value_depth(in.v.size(3)),
        group(heads / key_heads),
        causal(in.causal) {}

  /// Keys [0, visible(i)) are visible to query i.
  [[nodiscard]] std::int64_t visible(std::int64_t i) const {
    return causal ? std::clamp<std::int64_t>(i + keys - queries + 1, 0, keys) : keys;
  }
  /// Blocks of four random numbers that a row of probabilities takes, and where those of query i begin.
  [[nodiscard]] std::int64_t random_blocks() const { return (keys + 3) / 4; }
  [[nodiscard]] std::int64_t random_row(std::int64_t b, std::int64_t h, std::int64_t i) const {
    return ((b * heads + h) * queries + i) * random_blocks();
  }

  std::int64_t batch, queries, keys, heads, key_heads, depth, value_depth;
  std::int64_t group;  ///< query heads that share a key head
  bool causal;
};

/// Blocked, for any number of queries.
void attention_forward(const Attention::Forward& args);
/// For a few queries, such as the one of a step of generation: reads keys and values where they lie. No dropout.
void attention_few_queries(const Attention::Forward& args);
void attention_backward(const Attention::Backward& args);

}  // namespace trinix::cpu
