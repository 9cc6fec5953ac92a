#pragma once

#include <trinix/backends/cuda/attention/finite.cuh>
#include <trinix/backends/cuda/attention/scores.cuh>

/// @file
/// Tiles of the backward by keys: sizes, and the place of a block.

namespace trinix::cuda {

/// Whether this compilation may run on cards that take the small tiles, or on the others. Code for A100 and RTX 30 also
/// runs on younger cards of either kind, and PTX on all; code for RTX 40 and for H100 knows its cards.
template <bool kSmall>
__host__ __device__ constexpr bool has_code_for() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  return !kSmall;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 890
  return kSmall;
#else
  return true;
#endif
}

/// Tile sizes. dk and dv take half of the registers: 32 keys per warp at 64 columns, which halves the reads of shared
/// memory per product, and 16 otherwise. Of more than 128 columns a warp cannot hold both, so there are two blocks per
/// tile of keys, one for dk and dq, one for dv, and six products instead of five.
template <int kWidth, AttentionMode kMode, bool kSmall>
struct KeysTile {
  static constexpr bool kGeneral = kMode == AttentionMode::general;
  static constexpr bool kDrops = kMode == AttentionMode::drops;
  static constexpr bool kSplit = kWidth > 128;
  static_assert(kGeneral || (!kSplit && !kSmall));
  static constexpr bool kHasCode = !attention_has_small(kWidth) || has_code_for<kSmall>();
  static constexpr int kM = kWidth == 64 ? 2 : 1;
  static constexpr int kKeys = (kSplit ? 64 : 128) / (kSmall ? 2 : 1);
  static constexpr int kWarpKeys = kM * 16;
  static constexpr int kWarps = kKeys / kWarpKeys;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocks = kWidth == 64 ? 2 : 1;  // per multiprocessor
  static constexpr int kQueries = kSplit || (kSmall && kWidth == 128) ? 32 : 64;
#if __CUDA_ARCH__ >= 900
  static constexpr bool kShort = kGeneral || (kDrops && kWidth == 128);
#else
  static constexpr bool kShort = kGeneral || kWidth == 128;  // adding one float at a time takes more registers
#endif
  static constexpr int kPart = kGeneral && kM == 2 ? 16
                               : kM == 2 || kShort ? 32
                                                   : 64;  // queries whose scores are in the registers at a time
  using Tile = SharedTile<kWidth>;
  using ScoreTile = SharedTile<kQueries>;
  static constexpr int kKeyBytes = kKeys * Tile::kPitch;
  static constexpr int kQueryBytes = kQueries * Tile::kPitch;
  static constexpr int kScoreBytes = kKeys * ScoreTile::kPitch;
  // Keys, values, scores; two stages of queries and of their gradients, lse2 and delta; the int `care`.
  static constexpr int kStageBytes = 2 * kQueryBytes + 2 * kQueries * 4;
  static constexpr int kCareOffset = 2 * kKeyBytes + kScoreBytes + 2 * kStageBytes;
  static constexpr int kSharedBytes = kCareOffset + 16;
  static_assert(kSharedBytes <= attention_shared_bytes(kWidth, true, kSmall));
  // dQ: kRowWarps warps along the queries, the others along the columns, kSumParts times; a warp's part is then 16
  // kSumM x 8 kSumN. The same in every mode: the last kernel knows it too.
  static constexpr int kRowWarps = kWidth == 96 ? 4 : 2;
  static constexpr int kColumnWarps = kWarps / kRowWarps;
  static constexpr int kSumParts = kSplit && kSmall ? 2 : 1;
  static constexpr int kSumM = kQueries / 16 / kRowWarps;
  static constexpr int kSumN = kWidth / 8 / kColumnWarps / kSumParts;
  static constexpr int kSumFloats = kQueries * kWidth;  // one tile of dq_sum
  static constexpr int kPartFloats = kSumM * kSumN * 4 * kWarp;
  static_assert(kPartFloats * kWarps * kSumParts == kSumFloats && kSumN % 2 == 0);
};

/// Where a block of keys and a warp of it stand.
template <class Config>
struct KeysPlace {
  int b, h;       ///< h: of the keys
  int first_key;  ///< of the block
  int warp;
  int lane;

  __device__ KeysPlace(const AttentionProblem& p, const BlockOrder& order, unsigned block, unsigned thread) {
    const BlockOrder::Place place = order.place(block);
    b = place.head / p.key_heads;
    h = place.head % p.key_heads;
    first_key = place.tile * Config::kKeys;  // the first is seen by most where causal
    warp = static_cast<int>(thread) / kWarp;
    lane = static_cast<int>(thread) % kWarp;
  }
};

}  // namespace trinix::cuda
