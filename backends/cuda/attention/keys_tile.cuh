#pragma once

#include <trinix/backends/cuda/attention/tiles.cuh>

/// @file
/// Tiles of the backward by keys: sizes, place of a block, and what is hidden or dropped where scores lie transposed.

namespace trinix::cuda {

/// Tile sizes. dk and dv take half of the registers: 32 keys per warp at 64 columns, which halves the reads of shared
/// memory per product, and 16 otherwise.
template <int kWidth, bool kDrops>
struct KeysTile {
  static constexpr int kM = kWidth == 64 ? 2 : 1;
  static constexpr int kWarps = 8 / kM;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocks = kWidth == 64 ? 2 : 1;  // per multiprocessor
  static constexpr int kWarpKeys = kM * 16;
  static constexpr int kKeys = kWarps * kWarpKeys;
  static constexpr int kQueries = 64;
#if __CUDA_ARCH__ >= 900
  static constexpr bool kShort = kDrops && kWidth == 128;
#else
  static constexpr bool kShort = kWidth == 128;  // adding one float at a time takes more registers
#endif
  static constexpr int kPart = kM == 2 || kShort ? 32 : 64;  // queries whose scores are in the registers at a time
  using Tile = SharedTile<kWidth>;
  using ScoreTile = SharedTile<kQueries>;
  static constexpr int kKeyBytes = kKeys * Tile::kPitch;
  static constexpr int kQueryBytes = kQueries * Tile::kPitch;
  static constexpr int kScoreBytes = kKeys * ScoreTile::kPitch;
  // Keys, values, scores; two stages of queries and of their gradients, lse2 and delta.
  static constexpr int kStageBytes = 2 * kQueryBytes + 2 * kQueries * 4;
  static constexpr int kSharedBytes = 2 * kKeyBytes + kScoreBytes + 2 * kStageBytes;
  static_assert(kSharedBytes <= attention_shared_bytes(kWidth, true));
  // dQ: kRowWarps warps along the queries, the others along the columns; a warp's part is 16 kSumM x 8 kSumN.
  static constexpr int kRowWarps = kWidth == 96 ? 4 : 2;
  static constexpr int kSumM = kQueries / 16 / kRowWarps;
  static constexpr int kSumN = kWidth / 8 / (kWarps / kRowWarps);
  static constexpr int kSumFloats = kQueries * kWidth;  // one tile of dq_sum
};

/// Probabilities of hidden pairs become 0. `query` and `key` are those of element (0, 0) of the lane.
template <int kM, int kN>
__device__ inline void mask_transposed(float (&s)[kM][kN][4], const AttentionProblem& p, int query, int key) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = key + m * 16 + half * 8;
      const int first = row < p.keys ? row - p.last_offset - query : 1 << 30;
      const int last = row - p.first_offset - query;
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

/// Bits of a lane's four elements in a 16 x 8 block of (key, query): bit e as element e of the accumulator.
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

/// Where a block of keys and a warp of it stand.
template <class Config>
struct KeysPlace {
  int b, h;       ///< h: of the keys
  int first_key;  ///< of the block
  int rows;       ///< of the block that exist
  int warp;
  int lane;

  __device__ KeysPlace(const AttentionProblem& p, const BlockOrder& order, unsigned block, unsigned thread) {
    const BlockOrder::Place place = order.place(block);
    b = place.head / p.key_heads;
    h = place.head % p.key_heads;
    first_key = place.tile * Config::kKeys;  // the first is seen by most where causal
    rows = min(Config::kKeys, p.keys - first_key);
    warp = static_cast<int>(thread) / kWarp;
    lane = static_cast<int>(thread) % kWarp;
  }
};

}  // namespace trinix::cuda
