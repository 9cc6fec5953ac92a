#pragma once

#include <trinix/backends/cuda/attention/tiles.cuh>
#include <trinix/backends/cuda/device/barrier.cuh>
#include <trinix/backends/cuda/device/wgmma.cuh>

/// @file
/// The forward on Hopper: sizes of its tiles, what lies where in shared memory, and the place of a block.

namespace trinix::cuda {

template <int kWidth, AttentionMode kMode>
struct FlashForwardTile {
  static constexpr bool kPlain = kMode == AttentionMode::plain;
  static constexpr bool kGeneral = kMode == AttentionMode::general;
  static constexpr bool kSlopes = kMode == AttentionMode::slopes;
  static constexpr bool kBiased = kGeneral || kSlopes;            // scores are exponents of two before the softmax
  static constexpr int kGroups = kWidth == 64 && kPlain ? 3 : 2;  // warpgroups that multiply
  static constexpr int kThreads = (kGroups + 1) * 128;
  static constexpr int kFetchRegisters = kGroups == 3 ? 32 : 40;
  static constexpr int kRegisters = kGroups == 3 ? 160 : 232;
  static constexpr int kQueries = kGroups * 64;
  static constexpr int kKeys = kPlain || kSlopes || (kWidth == 64 && !kGeneral) ? 128 : 64;  // options take registers
  static constexpr int kStages = (kWidth == 64 ? 512 : 256) / kKeys;
  static constexpr int kPanels = (kWidth + 63) / 64;
  static constexpr int kQueryPanel = kQueries * kPanelPitch;  // bytes
  static constexpr int kKeyPanel = kKeys * kPanelPitch;
  static constexpr int kQueryBytes = kPanels * kQueryPanel;
  static constexpr int kKeyBytes = kPanels * kKeyPanel;
  using OutTile = SharedTile<kWidth>;
  static constexpr int kOutBytes = kQueries * OutTile::kPitch;
  static constexpr int kQueryStages = kWidth == 64 ? 2 : 1;  // short tiles: who is done shall not wait for the others
  static constexpr int kBarriers = 2 * kQueryStages + 4 * kStages;
  static constexpr int kSharedBytes =
      1024 + kQueryStages * kQueryBytes + 2 * kStages * kKeyBytes + kOutBytes + kBarriers * kBarrierBytes;
  static_assert(kSharedBytes <= 227 * 1024);
};

/// The block's shared memory, by addresses in the shared window.
template <class Config>
struct FlashForwardShared {
  std::uint32_t base;  ///< a multiple of 1024

  __device__ explicit FlashForwardShared(const char* dynamic) : base((shared_address(dynamic) + 1023) / 1024 * 1024) {}

  [[nodiscard]] __device__ std::uint32_t queries(int slot) const { return base + slot * Config::kQueryBytes; }
  [[nodiscard]] __device__ std::uint32_t keys(int slot) const {
    return queries(Config::kQueryStages) + slot * Config::kKeyBytes;
  }
  [[nodiscard]] __device__ std::uint32_t values(int slot) const { return keys(Config::kStages + slot); }
  [[nodiscard]] __device__ char* out() const {
    return static_cast<char*>(__cvta_shared_to_generic(keys(2 * Config::kStages)));
  }
  // Of what is there, one thread tells; of what is read, each warpgroup does.
  [[nodiscard]] __device__ Barrier queries_there(int slot) const { return barrier(slot); }
  [[nodiscard]] __device__ Barrier keys_there(int slot) const { return barrier(Config::kQueryStages + slot); }
  [[nodiscard]] __device__ Barrier values_there(int slot) const { return keys_there(Config::kStages + slot); }
  [[nodiscard]] __device__ Barrier queries_read(int slot) const { return barrier(kHalf + slot); }
  [[nodiscard]] __device__ Barrier keys_read(int slot) const { return queries_read(Config::kQueryStages + slot); }
  [[nodiscard]] __device__ Barrier values_read(int slot) const { return keys_read(Config::kStages + slot); }

  __device__ void init() const {
    for (int i = 0; i < kHalf; ++i) {
      init_barrier(barrier(i), 1);
      init_barrier(barrier(kHalf + i), Config::kGroups);
    }
    fence_barrier_init();
  }

 private:
  static constexpr int kHalf = Config::kBarriers / 2;

  [[nodiscard]] __device__ Barrier barrier(int i) const {
    return keys(2 * Config::kStages) + Config::kOutBytes + i * kBarrierBytes;
  }
};

/// A tile of queries and the tiles of keys, [first, end), that it sees.
template <class Config>
struct FlashForwardWork {
  int b, h;
  int first_query;
  int rows;  ///< that exist
  int first, end;

  template <class Lengths>
  __device__ FlashForwardWork(const BlockOrder::Place& place, int tiles, const AttentionProblem& p, const Lengths& l)
      : b(place.head / p.heads),
        h(place.head % p.heads),
        first_query((tiles - 1 - place.tile) * Config::kQueries),  // the last sees most where causal
        rows(min(Config::kQueries, l.queries - first_query)) {
    const Span seen = keys_seen(l, first_query, first_query + rows - 1);
    const bool any = rows > 0 && seen.end > seen.first;
    first = any ? seen.first / Config::kKeys : 0;
    end = any ? (seen.end + Config::kKeys - 1) / Config::kKeys : 0;
  }
};

}  // namespace trinix::cuda
