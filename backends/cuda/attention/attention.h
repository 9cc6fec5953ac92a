#pragma once

#include <cstdint>

#include <trinix/core/ops/attention.h>

/// @file
/// Attention on the tensor cores, after "FlashAttention-2" (Dao, arXiv 2307.08691): tiles of scores live in registers
/// and are never stored. Every product takes 16-bit operands and adds in f32; probabilities and their gradients are
/// rounded to 16 bits before they enter a product.
///
/// Who does what:
///   forward            a block per tile of queries walks over the keys with an online softmax
///   backward, rows     delta_i = dout_i . out_i - dlse_i, and lse in the base of exp2
///   backward, keys     a block per tile of keys walks over the queries: dk and dv in registers, dq added to f32 in
///                      global memory, in no fixed order
///   backward, finish   that sum to dq
///   backward, queries  a block per tile of queries walks over the keys: dq in registers; instead of the two above
///   where
///                      bits must repeat, for two more products out of five

namespace trinix::cuda {

/// A (batch, length, heads, depth) operand: its strides in elements.
struct HeadsView {
  void* data = nullptr;
  std::int64_t batch = 0;
  std::int64_t row = 0;
  std::int64_t head = 0;
  std::int64_t element = 1;
  bool vectors = true;  ///< 16-byte accesses are aligned
};

[[nodiscard]] HeadsView heads_view(const View& v);

/// Who attends to whom, with what, as the kernels see it.
struct AttentionProblem {
  explicit AttentionProblem(const Attention::Inputs& in);

  HeadsView q;
  HeadsView k;
  HeadsView v;
  int batch, queries, keys, heads, key_heads, depth;
  int group;  ///< query heads per key head
  // Query i sees keys [i + first_offset, i + last_offset], where such exist.
  int first_offset;
  int last_offset;
  float scale;
  float scale_log2;  ///< scale * log2(e): the exponentials are powers of two
  std::uint32_t drop_threshold;
  float keep_scale;  ///< 1 / (1 - p), 1 without dropout
  bool drops;
  RandomState random;
};

struct AttentionForwardTask {
  AttentionProblem problem;
  HeadsView out;
  float* lse;
};

struct AttentionBackwardTask {
  AttentionProblem problem;
  HeadsView out;
  HeadsView dout;
  const float* lse;
  const float* dlse;  ///< of lse's shape; null: lse has no gradient
  HeadsView dq;       ///< no data where it is not wanted, as the next two
  HeadsView dk;
  HeadsView dv;
  int padded_queries;  ///< a multiple of every tile; the rows behind the last query have lse2 = inf, delta = 0
  float* lse2;         ///< (batch, heads, padded_queries): lse * log2(e), +inf for rows that see nothing
  float* delta;        ///< the same shape
  float* dq_sum;       ///< (batch, heads, padded_queries, width) in the order of keys_kernel; null: not wanted
};

/// Columns that the kernels compute with for this head dim: 64, 96 or 128.
[[nodiscard]] constexpr int attention_width(std::int64_t depth) { return depth <= 64 ? 64 : depth <= 96 ? 96 : 128; }

/// Shared memory per block that forward and backward take at most.
[[nodiscard]] constexpr int attention_shared_bytes(int width, bool backward) {
  return backward ? (width == 64 ? 82 : width == 96 ? 114 : 146) * 1024 : width * 768 + 128;
}

/// A row-major copy at `to` of an operand of the queries' shape whose rows cannot be read 16 bytes at a time.
HeadsView gather_queries(const HeadsView& from, const AttentionProblem& p, void* to, const Stream& stream);

// Each file forward_*.cu, backward_*.cu holds one element type; kWidth as attention_width().
template <class T, int kWidth>
void run_forward(const AttentionForwardTask& task, const Stream& stream);
template <class T>
void run_backward_rows(const AttentionBackwardTask& task, const Stream& stream);
template <class T, int kWidth>
void run_backward_keys(const AttentionBackwardTask& task, const Stream& stream);
template <class T, int kWidth>
void run_backward_finish(const AttentionBackwardTask& task, const Stream& stream);
template <class T, int kWidth>
void run_backward_queries(const AttentionBackwardTask& task, const Stream& stream);

}  // namespace trinix::cuda
