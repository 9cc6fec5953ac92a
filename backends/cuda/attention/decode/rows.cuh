#pragma once

#include <trinix/backends/cuda/attention/scores.cuh>

/// @file
/// A tile whose rows are queries of several heads, and its scores. Row r of a sequence and key head is query r / group
/// of the group's head r % group. As in scores.cuh, a lane has rows g and g + 8, and the elements 2t, 2t + 1 of every 8
/// columns.

namespace trinix::cuda {

/// One row.
struct PackedRow {
  bool there;  ///< else it is one behind the last
  int query;
  int head;

  /// @param row of the key head
  __device__ PackedRow(const AttentionProblem& p, const Sequence& l, int key_head, int row)
      : there(row < l.queries * p.group), query(there ? row / p.group : 0) {
    head = key_head * p.group + (there ? row % p.group : 0);
  }
};

/// The two rows of a lane, and what of the options belongs to them.
class PackedRows {
 public:
  /// @param row the lane's first, of the key head
  __device__ PackedRows(const AttentionProblem& p, const Sequence& l, int b, int key_head, int row)
      : rows_{PackedRow(p, l, key_head, row), PackedRow(p, l, key_head, row + 8)} {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      slope2_[half] = slope_of(p, b, rows_[half].head);
      mask_[half] = b * p.mask.batch + rows_[half].head * p.mask.head + rows_[half].query * p.mask.row;
    }
  }

  [[nodiscard]] __device__ const PackedRow& operator[](int half) const { return rows_[half]; }

  /// From raw scores to exponents of two: scale, slopes and mask, as bias_scores().
  /// @param key of element 0 of the lane
  template <int kN>
  __device__ void bias(float (&s)[1][kN][4], const AttentionProblem& p, const Sequence& l, int key) const {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) s[0][n][e] *= p.scale_log2;
    }
    if (p.alibi != nullptr) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float distance = static_cast<float>(rows_[half].query + l.keys - l.queries - key);
#pragma unroll
        for (int n = 0; n < kN; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& score = s[0][n][2 * half + e];
            score = fmaf(-slope2_[half], fabsf(distance - static_cast<float>(n * 8 + e)), score);
          }
        }
      }
    }
    if (p.mask.data == nullptr) return;
    switch (p.mask.dtype) {
      case DType::boolean:
        return add<bool>(s, p.mask, l, key);
      case DType::f32:
        return add<float>(s, p.mask, l, key);
      case DType::bf16:
        return add<bfloat16>(s, p.mask, l, key);
      default:
        return add<float16>(s, p.mask, l, key);
    }
  }

  /// Scores of hidden pairs become -inf.
  template <int kN>
  __device__ void hide(float (&s)[1][kN][4], const Sequence& l, int key) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int first = rows_[half].query + l.first_offset - key;
      const int last = min(rows_[half].query + l.last_offset, l.keys - 1) - key;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = n * 8 + e;
          if (column < first || column > last) s[0][n][2 * half + e] = -INFINITY;
        }
      }
    }
  }

 private:
  template <class M, int kN>
  __device__ void add(float (&s)[1][kN][4], const MaskView& mask, const Sequence& l, int key) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!rows_[half].there) continue;
      const M* const from = static_cast<const M*>(mask.data) + mask_[half] + key * mask.key;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = s[0][n][2 * half + e];
          if (key + n * 8 + e < l.keys) score = masked(score, from[(n * 8 + e) * mask.key]);
        }
      }
    }
  }

  PackedRow rows_[2];
  float slope2_[2];
  std::int64_t mask_[2];  ///< where the row's mask begins
};

}  // namespace trinix::cuda
