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
///                      where bits must repeat, for two more products out of five
///   backward, mask     a block per tile of the mask walks over the heads that share it: dmask in registers

namespace trinix::cuda {

/// What a kernel is compiled for. All know causal and window; `drops` has dropout and `slopes` has slopes beside them;
/// `general` looks at run time whether there are slopes, a mask, lengths of their own, values of another depth or
/// dropout, and takes a scale of any sign. The kernels for all cards have no `slopes`, and heads of more than 128
/// columns `general` alone.
enum class AttentionMode : std::uint8_t { plain, drops, slopes, general };

/// A (batch, length, heads, depth) operand: its strides in elements.
struct HeadsView {
  void* data = nullptr;
  std::int64_t batch = 0;
  std::int64_t row = 0;
  std::int64_t head = 0;
  std::int64_t element = 1;
  bool vectors = true;  ///< 16-byte accesses are aligned
};

/// Whether the rows are 16-byte pieces: what the kernels ask of all that they read.
[[nodiscard]] bool in_vectors(const View& v);
[[nodiscard]] HeadsView heads_view(const View& v);

/// The mask, (batch, heads, queries, keys): its strides in elements.
struct MaskView {
  const void* data = nullptr;  ///< null: no mask
  std::int64_t batch = 0;
  std::int64_t head = 0;
  std::int64_t row = 0;
  std::int64_t key = 0;
  DType dtype = DType::boolean;
  bool pairs = false;  ///< keys 2j and 2j + 1 can be read at once, and neither is the last alone
};

/// Who attends to whom, with what, as the kernels see it.
struct AttentionProblem {
  explicit AttentionProblem(const Attention::Inputs& in);

  [[nodiscard]] AttentionMode mode() const;

  HeadsView q;
  HeadsView k;
  HeadsView v;
  int batch;                          ///< or sequences
  int queries, keys;                  ///< of the longest sequence
  std::int64_t query_rows, key_rows;  ///< of the operands: of all sequences, where these have lengths of their own
  int heads, key_heads, depth, value_depth;
  int chunks, value_chunks;  ///< 16-byte pieces that a row needs
  int group;                 ///< query heads per key head
  // Query i sees keys [i + first_offset, i + last_offset], where such exist.
  int first_offset;
  int last_offset;
  int reach_left, reach_right;  ///< of the window, from the diagonal i + keys - queries
  float scale;
  float scale_log2;  ///< scale * log2(e): the exponentials are powers of two
  std::uint32_t drop_threshold;
  float keep_scale;  ///< 1 / (1 - p), 1 without dropout
  bool drops;
  RandomState random;
  const float* alibi;  ///< null: no slopes
  std::int64_t alibi_batch, alibi_head;
  MaskView mask;
  const int* query_starts;  ///< null: one length for all
  const int* key_starts;
  std::int64_t lse_batch, lse_head;  ///< strides of lse and dlse
  // Where a sequence begins in its operands, for those who do not look at query_starts.
  static constexpr int query_start = 0;
  static constexpr int key_start = 0;
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
  int padded_queries;         ///< a multiple of every tile; rows behind the last query give nothing
  std::int64_t padded_total;  ///< rows of a head in what follows, where sequences have lengths of their own
  float* lse2;    ///< (batch, heads, padded_queries): lse * log2(e), +inf for rows that see nothing. Or (heads,
                  ///< padded_total), where sequence n begins at the multiple of 128 below query_starts[n] + 128 n
  float* delta;   ///< the same shape
  float* dq_sum;  ///< (batch, heads, padded_queries, width) in the order of keys_kernel; null: not wanted
  int* suspect = nullptr;  ///< set where some lse2 or delta is not finite; null: not wanted
};

struct AttentionMaskTask {
  AttentionBackwardTask backward;
  float* dmask;  ///< (batches, heads, queries, keys), row-major
  int batches;   ///< 1: summed over
  int heads;     ///< 1: summed over
  int parts;     ///< into which the sum is split; more than one add in no fixed order
  int query_tiles;
  int key_tiles;
};

/// Columns that the kernels compute with for this head dim.
[[nodiscard]] constexpr int attention_width(std::int64_t depth) {
  return depth <= 64 ? 64 : depth <= 96 ? 96 : depth <= 128 ? 128 : depth <= 192 ? 192 : 256;
}
inline constexpr std::int64_t kAttentionDepth = 256;  ///< most

/// The backward has two sets of tiles where one would not fit all cards: A100 and H100 give a block 160 KB and more of
/// shared memory, RTX 30 to 50 give 99 KB. The small ones come in the general mode only.
[[nodiscard]] constexpr bool attention_has_small(int width) { return width > 64; }

/// Shared memory per block that forward and backward take at most.
[[nodiscard]] constexpr int attention_shared_bytes(int width, bool backward, bool small) {
  if (!backward) return width <= 128 ? width * 768 + 128 : width * 384 + 128;
  if (small) return 99 * 1024;
  return (width == 64 ? 82 : width == 96 ? 114 : 146) * 1024;
}

/// A row-major copy at `to` of an operand whose rows are no 16-byte pieces, padded by zeros to `columns`.
HeadsView gather_rows(const View& from, void* to, int columns, const Stream& stream);

// Each file forward_*.cu, backward_*.cu holds some of the element types T and widths, as attention_width().
template <class T, int kWidth>
void run_forward(const AttentionForwardTask& task, const Stream& stream);
template <class T>
void run_backward_rows(const AttentionBackwardTask& task, const Stream& stream);
template <class T, int kWidth>
void run_backward_keys(const AttentionBackwardTask& task, bool small, const Stream& stream);
template <class T, int kWidth>
void run_backward_finish(const AttentionBackwardTask& task, bool small, const Stream& stream);
template <class T, int kWidth>
void run_backward_queries(const AttentionBackwardTask& task, bool small, const Stream& stream);
/// @param task all of whose `parts`, `query_tiles` and `key_tiles` are set here.
template <class T>
void run_backward_mask(AttentionMaskTask task, bool deterministic, const Stream& stream);

}  // namespace trinix::cuda
