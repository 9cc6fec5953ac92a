#pragma once

#include <trinix/backends/cuda/attention/tiles.cuh>
#include <trinix/backends/cuda/device/barrier.cuh>
#include <trinix/backends/cuda/device/wgmma.cuh>

/// @file
/// The backward on Hopper: sizes of its tiles, what lies where in shared memory, and the place of a block.

namespace trinix::cuda {

template <int kWidth, AttentionMode kMode>
struct FlashBackwardTile {
  static constexpr bool kGeneral = kMode == AttentionMode::general;
  static constexpr bool kDrops = kMode == AttentionMode::drops;
  static constexpr bool kSlopes = kMode == AttentionMode::slopes;
  static constexpr int kThreads = 3 * 128;
  static constexpr int kFetchRegisters = 24;
  static constexpr int kRegisters = 240;
  static constexpr int kKeys = 128;
  static constexpr int kQueries = kWidth == 64 && kMode == AttentionMode::plain ? 128 : 64;  // options take registers
  static constexpr int kStages = 2;
  static constexpr int kPanels = (kWidth + 63) / 64;
  static constexpr int kKeyPanel = kKeys * kPanelPitch;  // bytes
  static constexpr int kQueryPanel = kQueries * kPanelPitch;
  static constexpr int kKeyBytes = kPanels * kKeyPanel;
  static constexpr int kQueryBytes = kPanels * kQueryPanel;
  static constexpr int kRowBytes = kQueries * 4;           // of lse2 or delta
  static constexpr int kScorePanel = kKeys * kPanelPitch;  // 64 queries of dS^T
  static constexpr int kScoreBytes = kQueries / 64 * kScorePanel;
  static constexpr int kKeyStages = 2;  // so that the next tile is there when a block begins with it
  static constexpr int kBarriers = 2 * kKeyStages + 4 * kStages;
  // Keys, values; rings of queries and of their gradients; dS^T twice; lse2 and delta; barriers; a note.
  static constexpr int kRowsOffset = 2 * kKeyStages * kKeyBytes + 2 * kStages * kQueryBytes + 2 * kScoreBytes;
  static constexpr int kBarrierOffset = kRowsOffset + 2 * kStages * kRowBytes;
  static constexpr int kSharedBytes = 1024 + kBarrierOffset + kBarriers * kBarrierBytes + 16;
  static_assert(kSharedBytes <= 227 * 1024);
  // dQ of a tile: each warpgroup has 64 rows of kSumColumns columns, in the order of its registers.
  static constexpr bool kSplitsQueries = kQueries == 128;
  static constexpr int kSumColumns = kSplitsQueries ? 64 * kPanels : 32 * kPanels;
  static constexpr int kSumFloats = kQueries * 64 * kPanels;
  static_assert(!kSplitsQueries || kPanels == 1);
};

/// The block's shared memory, by addresses in the shared window.
template <class Config>
struct FlashBackwardShared {
  std::uint32_t base;  ///< a multiple of 1024

  __device__ explicit FlashBackwardShared(const char* dynamic) : base((shared_address(dynamic) + 1023) / 1024 * 1024) {}

  [[nodiscard]] __device__ std::uint32_t keys(int slot) const { return base + 2 * slot * Config::kKeyBytes; }
  [[nodiscard]] __device__ std::uint32_t values(int slot) const { return keys(slot) + Config::kKeyBytes; }
  [[nodiscard]] __device__ std::uint32_t queries(int slot) const {
    return keys(Config::kKeyStages) + slot * Config::kQueryBytes;
  }
  [[nodiscard]] __device__ std::uint32_t gradients(int slot) const { return queries(Config::kStages + slot); }
  [[nodiscard]] __device__ std::uint32_t scores(int which) const {
    return queries(2 * Config::kStages) + which * Config::kScoreBytes;
  }
  [[nodiscard]] __device__ std::uint32_t lse2(int slot) const {
    return base + Config::kRowsOffset + slot * Config::kRowBytes;
  }
  [[nodiscard]] __device__ std::uint32_t delta(int slot) const { return lse2(Config::kStages + slot); }
  // Of what is there, one thread tells; of what is read, each warpgroup does.
  [[nodiscard]] __device__ Barrier keys_there(int slot) const { return barrier(slot); }
  [[nodiscard]] __device__ Barrier queries_there(int slot) const { return barrier(Config::kKeyStages + slot); }
  [[nodiscard]] __device__ Barrier gradients_there(int slot) const { return queries_there(Config::kStages + slot); }
  [[nodiscard]] __device__ Barrier keys_read(int slot) const { return barrier(kHalf + slot); }
  [[nodiscard]] __device__ Barrier queries_read(int slot) const { return keys_read(Config::kKeyStages + slot); }
  [[nodiscard]] __device__ Barrier gradients_read(int slot) const { return queries_read(Config::kStages + slot); }
  /// Whether the tile of keys or values holds something that is not finite.
  [[nodiscard]] __device__ volatile int* note() const {
    return static_cast<volatile int*>(__cvta_shared_to_generic(barrier(Config::kBarriers)));
  }

  __device__ void init() const {
    for (int i = 0; i < kHalf; ++i) {
      init_barrier(barrier(i), 1);
      init_barrier(barrier(kHalf + i), 2);
    }
    fence_barrier_init();
    *note() = 0;
  }

 private:
  static constexpr int kHalf = Config::kBarriers / 2;

  [[nodiscard]] __device__ Barrier barrier(int i) const { return base + Config::kBarrierOffset + i * kBarrierBytes; }
};

/// A tile of keys and the tiles of queries, [first, end), of each head of its group, that see it.
template <class Config>
struct FlashBackwardWork {
  int b, h;  ///< h: of the keys
  int first_key;
  int rows;  ///< that exist
  int first, end;

  __device__ FlashBackwardWork(const BlockOrder& order, int item, const AttentionProblem& p) {
    const BlockOrder::Place place = order.place(static_cast<unsigned>(item));
    b = place.head / p.key_heads;
    h = place.head % p.key_heads;
    first_key = place.tile * Config::kKeys;  // the first is seen by most where causal
    rows = min(Config::kKeys, p.keys - first_key);
    const Span seen = queries_seeing(p, first_key, first_key + rows - 1);
    const bool any = seen.end > seen.first;
    first = any ? seen.first / Config::kQueries : 0;
    end = any ? (seen.end + Config::kQueries - 1) / Config::kQueries : 0;
  }
};

}  // namespace trinix::cuda
