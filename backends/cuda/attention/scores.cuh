#pragma once

#include <trinix/backends/cuda/attention/tiles.cuh>

/// @file
/// What is done to a tile of scores, as it lies in the registers of a warp, before the exponentials: slopes and masks
/// are added, hidden pairs become -inf.
///
/// With g = lane / 4 and t = lane % 4, element e of block (m, n) is at row 16 m + g + 8 (e / 2) and column
/// 8 n + 2 t + e % 2 of the tile. Rows are queries and columns keys; transposed, rows are keys and columns queries.
/// `query` and `key` are always those of element 0 of block (0, 0) of the lane.

namespace trinix::cuda {

inline constexpr float kLog2E = 1.4426950408889634F;

/// Scores of hidden pairs become -inf.
template <int kM, int kN, class Lengths>
__device__ inline void mask_scores(float (&s)[kM][kN][4], const Lengths& l, int query, int key) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = query + m * 16 + half * 8;
      const int first = row + l.first_offset - key;
      const int last = min(row + l.last_offset, l.keys - 1) - key;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = n * 8 + e;
          if (column < first || column > last) s[m][n][2 * half + e] = -INFINITY;
        }
      }
    }
  }
}

/// Probabilities of hidden pairs become 0; transposed.
template <int kM, int kN, class Lengths>
__device__ inline void mask_transposed(float (&s)[kM][kN][4], const Lengths& l, int query, int key) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = key + m * 16 + half * 8;
      const int first = row < l.keys ? row - l.last_offset - query : 1 << 30;
      const int last = row - l.first_offset - query;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = n * 8 + e;
          if (column < first || column > last) s[m][n][2 * half + e] = 0;
        }
      }
    }
  }
}

/// s = s scale log2(e) - slope2 |query + keys - queries - key|. Where a tile lies on one side of the diagonal, or what
/// lies beyond it is hidden, the distance needs no absolute value and costs one addition per score.
template <bool kTransposed, int kM, int kN, class Lengths>
__device__ inline void add_slope(float (&s)[kM][kN][4], const AttentionProblem& p, const Lengths& l, float slope2,
                                 int query, int key) {
  constexpr int kRows = 16 * kM - 8;  // from the first to the last of a lane
  constexpr int kColumns = 8 * kN - 7;
  const int distance = query + l.keys - l.queries - key;
  const int least = distance - (kTransposed ? kRows : kColumns);
  const int most = distance + (kTransposed ? kColumns : kRows);
  const bool left = least >= 0 || p.reach_right == 0;
  if (left || most <= 0) {
    const float factor = left ? -slope2 : slope2;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = m * 16 + half * 8;
        const float base = factor * static_cast<float>(kTransposed ? distance - row : distance + row);
#pragma unroll
        for (int n = 0; n < kN; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const float bias = fmaf(kTransposed ? factor : -factor, static_cast<float>(n * 8 + e), base);
            s[m][n][2 * half + e] = fmaf(s[m][n][2 * half + e], p.scale_log2, bias);
          }
        }
      }
    }
    return;
  }
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = m * 16 + half * 8;
      const float base = static_cast<float>(kTransposed ? distance - row : distance + row);
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float column = static_cast<float>(kTransposed ? n * 8 + e : -(n * 8 + e));
          s[m][n][2 * half + e] = fmaf(-slope2, fabsf(base + column), s[m][n][2 * half + e] * p.scale_log2);
        }
      }
    }
  }
}

/// One score, in the base of exp2, with one element of the mask. A score of a hidden pair may be NaN, and goes.
template <class M>
__device__ inline float masked(float score, M mask) {
  if constexpr (std::is_same_v<M, bool>) {
    return mask ? score : -INFINITY;
  } else {
    // Only -inf hides. In the base of exp2 the lowest numbers would leave f32's range; nothing is this far down anyway.
    constexpr float kLeast = -1e38F;
    const float x = widen(mask);
    return x == -INFINITY ? x : fmaf(fmaxf(x, kLeast), kLog2E, score);
  }
}

/// Adds the mask of head h in batch b, of element type M. What lies beyond the lengths is left alone.
template <class M, bool kTransposed, int kM, int kN, class Lengths>
__device__ inline void add_mask(float (&s)[kM][kN][4], const MaskView& mask, const Lengths& l, int b, int h, int query,
                                int key) {
  const M* const base =
      static_cast<const M*>(mask.data) + b * mask.batch + h * mask.head + query * mask.row + key * mask.key;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = m * 16 + half * 8;
      if ((kTransposed ? key : query) + row >= (kTransposed ? l.keys : l.queries)) continue;
      const M* const from = base + row * (kTransposed ? mask.key : mask.row);
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        if constexpr (kTransposed) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& score = s[m][n][2 * half + e];
            if (query + n * 8 + e < l.queries) score = masked(score, from[(n * 8 + e) * mask.row]);
          }
        } else {
          const int left = l.keys - key - n * 8;
          if (left <= 0) continue;
          Vector<M, 2> pair;
          if (mask.pairs) {
            pair = load_vector<2>(from + n * 8);
          } else {
            pair.at[0] = from[n * 8 * mask.key];
            pair.at[1] = left > 1 ? from[(n * 8 + 1) * mask.key] : pair.at[0];
          }
#pragma unroll
          for (int e = 0; e < 2; ++e) s[m][n][2 * half + e] = masked(s[m][n][2 * half + e], pair.at[e]);
        }
      }
    }
  }
}

/// Slope of head h in batch b in the base of exp2; 0 where there is none.
__device__ inline float slope_of(const AttentionProblem& p, int b, int h) {
  return p.alibi == nullptr ? 0.0F : p.alibi[b * p.alibi_batch + h * p.alibi_head] * kLog2E;
}

/// From raw scores to exponents of two: scale and slope.
template <bool kTransposed, int kM, int kN, class Lengths>
__device__ inline void scale_scores(float (&s)[kM][kN][4], const AttentionProblem& p, const Lengths& l, float slope2,
                                    int query, int key) {
  if (p.alibi != nullptr) return add_slope<kTransposed>(s, p, l, slope2, query, key);
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) s[m][n][e] *= p.scale_log2;
    }
  }
}

/// The same, and the mask.
template <bool kTransposed, int kM, int kN, class Lengths>
__device__ inline void bias_scores(float (&s)[kM][kN][4], const AttentionProblem& p, const Lengths& l, float slope2,
                                   int b, int h, int query, int key) {
  scale_scores<kTransposed>(s, p, l, slope2, query, key);
  if (p.mask.data == nullptr) return;
  switch (p.mask.dtype) {
    case DType::boolean:
      return add_mask<bool, kTransposed>(s, p.mask, l, b, h, query, key);
    case DType::f32:
      return add_mask<float, kTransposed>(s, p.mask, l, b, h, query, key);
    case DType::bf16:
      return add_mask<bfloat16, kTransposed>(s, p.mask, l, b, h, query, key);
    default:
      return add_mask<float16, kTransposed>(s, p.mask, l, b, h, query, key);
  }
}

/// A lane's part of a tile of a mask of 16-bit elements, loaded before it is needed: two keys to a register.
template <int kN>
struct MaskPairs {
  std::uint32_t pairs[kN][2];

  __device__ static bool fits(const MaskView& mask) {
    return mask.data != nullptr && mask.pairs && (mask.dtype == DType::bf16 || mask.dtype == DType::f16);
  }

  template <class Lengths>
  __device__ void load(const MaskView& mask, const Lengths& l, int b, int h, int query, int key) {
    const auto* const from =
        static_cast<const std::uint16_t*>(mask.data) + b * mask.batch + h * mask.head + query * mask.row + key;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        const bool there = query + half * 8 < l.queries && key + n * 8 < l.keys;
        pairs[n][half] =
            there ? *reinterpret_cast<const std::uint32_t*>(from + half * 8 * mask.row + n * 8) : std::uint32_t{0};
      }
    }
  }

  __device__ void add(float (&s)[1][kN][4], const MaskView& mask) const {
    mask.dtype == DType::bf16 ? add_as<bfloat16>(s) : add_as<float16>(s);
  }

 private:
  template <class M>
  __device__ void add_as(float (&s)[1][kN][4]) const {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const auto bits = static_cast<std::uint16_t>(pairs[n][e / 2] >> (e % 2 * 16));
        s[0][n][e] = masked(s[0][n][e], M::from_bits(bits));
      }
    }
  }
};

/// Bits of a lane's four elements in a 16 x 8 block of (query, key): bit e as element e of the accumulator.
/// @param row the first random block of this lane's own row, which is g + 8 (t mod 2); @param block of its four keys.
__device__ inline std::uint32_t kept_by_query(const DropRule& rule, std::uint64_t row, int block, int lane) {
  const int odd = lane & 1;
  std::uint32_t bits = rule.four(row + static_cast<std::uint64_t>(block)) << (4 * odd);
  bits |= __shfl_xor_sync(0xffffffffU, bits, 1);
  return (bits >> (2 * odd) & 3U) | (bits >> (4 + 2 * odd) & 3U) << 2;
}

/// Which of a tile's probabilities stay: bit 4 n + e of the 32 at kept[m][n / 8] for element e of block (m, n). `query`
/// and `key` are the tile's first.
template <int kM, int kN>
__device__ inline void draw_kept(std::uint32_t (&kept)[kM][(kN + 7) / 8], const AttentionProblem& p, int b, int h,
                                 int query, int key, int lane) {
  const DropRule rule(p);
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    const std::uint64_t row = rule.row(p, b, h, query + m * 16 + lane / 4 + 8 * (lane & 1));
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const std::uint32_t bits = kept_by_query(rule, row, key / 4 + 2 * n + lane % 4 / 2, lane) << (4 * n % 32);
      kept[m][n / 8] = n % 8 == 0 ? bits : kept[m][n / 8] | bits;
    }
  }
}

/// Sets those of a tile's probabilities to 0 that are dropped.
template <int kM, int kN>
__device__ inline void drop_scores(float (&s)[kM][kN][4], const std::uint32_t (&kept)[kM][(kN + 7) / 8]) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) s[m][n][e] = (kept[m][n / 8] >> (4 * n % 32 + e) & 1U) != 0 ? s[m][n][e] : 0.0F;
    }
  }
}

/// Both at once, where nothing is gained by drawing early.
template <int kM, int kN>
__device__ inline void drop_scores(float (&s)[kM][kN][4], const AttentionProblem& p, int b, int h, int query, int key,
                                   int lane) {
  std::uint32_t kept[kM][(kN + 7) / 8];
  draw_kept<kM, kN>(kept, p, b, h, query, key, lane);
  drop_scores(s, kept);
}

/// The same for a block of (key, query).
/// @param first_row first random block of the query in column 0; @param key of the block's row 0.
__device__ inline std::uint32_t kept_by_key(const DropRule& rule, std::uint64_t first_row, int key, int lane) {
  // Four lanes, w = g mod 4, share four random blocks: two rows g, g + 8 by two columns 2t, 2t + 1.
  const int w = lane / 4 % 4;
  const int column = lane % 4 * 2 + w % 2;
  const std::uint64_t block = first_row + static_cast<std::uint64_t>(column) * rule.blocks_per_row +
                              static_cast<std::uint64_t>((key + w / 2 * 8 + lane / 4) / 4);
  std::uint32_t bits = rule.four(block) << (4 * w);
  bits |= __shfl_xor_sync(0xffffffffU, bits, 4);
  bits |= __shfl_xor_sync(0xffffffffU, bits, 8);
  bits >>= w;
  return (bits & 1U) | (bits >> 3 & 2U) | (bits >> 6 & 4U) | (bits >> 9 & 8U);
}

/// Rounds the scores of 16 rows to the left operand of a product, 16 columns per step.
template <class T, int kN>
__device__ inline void pack_scores(std::uint32_t (&packed)[kN / 2][4], const float (&s)[1][kN][4]) {
#pragma unroll
  for (int step = 0; step < kN / 2; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&pair)[4] = s[0][2 * step + i / 2];
      packed[step][i] = pack_pair<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
    }
  }
}

}  // namespace trinix::cuda
