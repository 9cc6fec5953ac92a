#pragma once

#include <trinix/backends/cuda/attention/tiles.cuh>
#include <trinix/backends/cuda/device/barrier.cuh>
#include <trinix/backends/cuda/device/wgmma.cuh>

/// @file
/// The forward on Hopper: sizes of its tiles, what lies where in shared memory, and the place of a block.

namespace trinix::cuda {

/// @tparam kWidth of queries and keys, @tparam kValueWidth of values: what they are rounded up to
template <int kWidth, int kValueWidth, AttentionMode kMode>
struct FlashForwardTile {
  static constexpr bool kPlain = kMode == AttentionMode::plain;
  static constexpr bool kGeneral = kMode == AttentionMode::general;
  static constexpr bool kSlopes = kMode == AttentionMode::slopes;
  static constexpr bool kBiased = kGeneral || kSlopes;            // scores are exponents of two before the softmax
  static constexpr bool kWide = kWidth > 128;                     // the output takes the place of the queries
  static constexpr int kGroups = kWidth == 64 && kPlain ? 3 : 2;  // warpgroups that multiply
  static constexpr int kThreads = (kGroups + 1) * 128;
  static constexpr bool kDear = kWide && (kValueWidth > 128 || !kGeneral);
  static constexpr int kFetchRegisters = kDear ? 24 : kGroups == 3 ? 32 : 40;
  static constexpr int kRegisters = kDear ? 240 : kGroups == 3 ? 160 : 232;
  static constexpr int kQueries = kGroups * 64;
  // Options take registers, and so does the output.
  static constexpr int kPlainKeys = kValueWidth > 128 ? 64 : 128;
  static constexpr int kOptionKeys =
      kWide ? (kGeneral ? 32 : kPlainKeys / 2) : (kSlopes || (kWidth == 64 && !kGeneral) ? kPlainKeys : 64);
  static constexpr int kKeys = kPlain ? kPlainKeys : kOptionKeys;
  static constexpr int kStages = kWide ? 2 : (kWidth == 64 ? 512 : 256) / kKeys;
  static constexpr int kPanels = (kWidth + 63) / 64;
  static constexpr int kValuePanels = (kValueWidth + 63) / 64;
  static constexpr int kQueryPanel = kQueries * kPanelPitch;  // bytes
  static constexpr int kKeyPanel = kKeys * kPanelPitch;       // and of values
  static constexpr int kQueryBytes = kPanels * kQueryPanel;
  static constexpr int kKeyBytes = kPanels * kKeyPanel;
  static constexpr int kValueBytes = kValuePanels * kKeyPanel;
  static constexpr int kOutBytes = kWide ? 0 : kValuePanels * kQueryPanel;
  static constexpr int kQueryStages = kWidth == 64 ? 2 : 1;  // short tiles: who is done shall not wait for the others
  static constexpr int kBarriers = 2 * kQueryStages + 4 * kStages;
  static constexpr int kSharedBytes =
      1024 + kQueryStages * kQueryBytes + kStages * (kKeyBytes + kValueBytes) + kOutBytes + kBarriers * kBarrierBytes;
  static_assert(kSharedBytes <= 227 * 1024 && kValueWidth <= kWidth);
  // The output by products of up to 128 columns.
  static constexpr int kParts = (kValueWidth + 127) / 128;
  static constexpr int kPartColumns = kValueWidth / kParts;
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
  [[nodiscard]] __device__ std::uint32_t values(int slot) const {
    return keys(Config::kStages) + slot * Config::kValueBytes;
  }
  [[nodiscard]] __device__ char* out() const {
    return static_cast<char*>(__cvta_shared_to_generic(Config::kWide ? queries(0) : values(Config::kStages)));
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
    return values(Config::kStages) + Config::kOutBytes + i * kBarrierBytes;
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
