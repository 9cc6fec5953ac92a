#pragma once

#include <trinix/backends/cuda/attention/forward.cuh>
#include <trinix/backends/cuda/attention/keys_tile.cuh>

/// @file
/// dq by tiles of queries: a block of warps, each with 16 queries, walks over the keys that they see and computes
/// the scores once more, dQ = scale dS K. No sum leaves its block, so the bits are the same in every run. Three
/// products per pair, 6 Sq Sk D operations per head.

namespace trinix::cuda {

/// Tile sizes. Dropout is looked at in the general mode only: where bits must repeat, time is not all.
template <int kWidth, AttentionMode kMode, bool kSmall>
struct QueriesTile {
  static constexpr bool kGeneral = kMode == AttentionMode::general;
  static constexpr bool kHasCode = !attention_has_small(kWidth) || has_code_for<kSmall>();
  static constexpr bool kWide = kWidth > 128;
  static constexpr int kWarps = kWide || (kSmall && kWidth == 128) ? 4 : 8;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kM = 1;
  static constexpr int kQueries = kWarps * 16;
  static constexpr int kKeys = !kWide ? 64 : kWidth == 256 ? 16 : 32;
  static constexpr int kUnroll = kWide ? 2 : 8;  // further, more operands are loaded ahead than the registers hold
  using Tile = SharedTile<kWidth>;
  static constexpr int kQueryBytes = kQueries * Tile::kPitch;
  static constexpr int kKeyBytes = kKeys * Tile::kPitch;
  // Queries and their gradients, and two stages of keys and values.
  static constexpr int kSharedBytes = 2 * kQueryBytes + 4 * kKeyBytes;
  static_assert(kSharedBytes <= attention_shared_bytes(kWidth, true, kSmall));
};

template <class T, int kWidth, AttentionMode kMode, bool kSmall>
__global__ void __launch_bounds__(QueriesTile<kWidth, kMode, kSmall>::kThreads, 1)
    attention_queries_kernel(const __grid_constant__ AttentionBackwardTask task, const BlockOrder order) {
  using Config = QueriesTile<kWidth, kMode, kSmall>;
  using Tile = typename Config::Tile;
  constexpr bool kGeneral = Config::kGeneral;
  constexpr int kN = Config::kKeys / 8;
  constexpr int kO = kWidth / 8;
  extern __shared__ __align__(128) char shared[];
  if (!Config::kHasCode) __trap();  // the other tiles are for this card
  const AttentionProblem& p = task.problem;
  const ForwardPlace<Config> at(p, order, blockIdx.x, threadIdx.x);
  const auto& l = lengths_of<kMode>(p, at.b);
  const int rows = min(Config::kQueries, l.queries - at.first_query);
  if (kGeneral && rows <= 0) return;  // the tile is one of longer sequences
  const Span seen = keys_seen(l, at.first_query, at.first_query + rows - 1);
  const int first_tile = seen.first / Config::kKeys;
  const int tiles = seen.end > seen.first ? (seen.end + Config::kKeys - 1) / Config::kKeys - first_tile : 0;

  const T* k = keys_of<T>(p.k, l, at.b, at.h / p.group);
  const T* v = keys_of<T>(p.v, l, at.b, at.h / p.group);
  const std::uint32_t q_tile = shared_address(shared);
  const std::uint32_t k_tile = q_tile + 2 * Config::kQueryBytes;
  const std::uint32_t v_tile = k_tile + 2 * Config::kKeyBytes;
  const auto copy_keys = [&](int tile, int slot) {
    const std::int64_t key = static_cast<std::int64_t>(first_tile + tile) * Config::kKeys;
    const int count = l.keys - static_cast<int>(key);
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(k_tile + slot * Config::kKeyBytes, k + key * p.k.row,
                                                             p.k.row, count, p.chunks);
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(v_tile + slot * Config::kKeyBytes, v + key * p.v.row,
                                                             p.v.row, count, p.value_chunks);
    commit_copies();
  };
  float lse2[2];
  float delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = padded_row(task, l, at.b, at.h) + at.first_query + at.warp_row + half * 8 + at.lane / 4;
    lse2[half] = task.lse2[row];
    delta[half] = task.delta[row];
  }
  const std::uint32_t q_lane = q_tile + lane_by_row<Tile>(at.lane) + at.warp_row * Tile::kPitch;
  const std::uint32_t k_lane = k_tile + lane_by_column<Tile>(at.lane);
  const std::uint32_t k_row_lane = k_tile + lane_by_row<Tile>(at.lane);

  const float slope2 = kGeneral ? slope_of(p, at.b, at.h) : 0.0F;
  float dq[1][kO][4];
  // A second time, with care, where something that is not finite has turned up: it may come from hidden keys.
#pragma unroll 1
  for (bool careful = false;; careful = true) {
#pragma unroll
    for (int n = 0; n < kO; ++n) dq[0][n][0] = dq[0][n][1] = dq[0][n][2] = dq[0][n][3] = 0;
    if (tiles > 0) {
      copy_tile_async<Config::kQueries, kWidth, Config::kThreads>(
          q_tile, queries_of<T>(p.q, l, at.b, at.h) + static_cast<std::int64_t>(at.first_query) * p.q.row, p.q.row,
          rows, p.chunks);
      copy_tile_async<Config::kQueries, kWidth, Config::kThreads>(
          q_tile + Config::kQueryBytes,
          queries_of<T>(task.dout, l, at.b, at.h) + static_cast<std::int64_t>(at.first_query) * task.dout.row,
          task.dout.row, rows, p.value_chunks);
      copy_keys(tiles - 1, (tiles - 1) & 1);
    }
    for (int tile = tiles - 1; tile >= 0; --tile) {
      await_copies<0>();
      __syncthreads();  // this tile is there, and nobody reads the other slot any more
      if (tile > 0) copy_keys(tile - 1, (tile - 1) & 1);
      const std::uint32_t slot = static_cast<std::uint32_t>((tile & 1) * Config::kKeyBytes);
      const int first_key = (first_tile + tile) * Config::kKeys;
      const std::uint32_t q_now = kept_apart(q_lane);
      if (careful) {
        char* const keys = shared + 2 * Config::kQueryBytes + slot;
        make_finite<T, Tile, Config::kKeys, Config::kThreads>(keys, keys + 2 * Config::kKeyBytes);
        __syncthreads();
      }

      float s[1][kN][4] = {};
      float ds[1][kN][4] = {};
#pragma unroll Config::kUnroll
      for (int step = 0; step < kWidth / 16; ++step) {
        std::uint32_t aq[4];
        std::uint32_t ao[4];
        load_matrices(aq, Tile::step(q_now, 0, step * 2));
        load_matrices(ao, Tile::step(q_now + Config::kQueryBytes, 0, step * 2));
#pragma unroll
        for (int n = 0; n < kN; n += 2) {
          std::uint32_t bk[4];
          std::uint32_t bv[4];
          load_matrices(bk, Tile::step(k_lane + slot, n * 8, step * 2));
          load_matrices(bv, Tile::step(k_lane + slot + 2 * Config::kKeyBytes, n * 8, step * 2));
          mma<T>(s[0][n], aq, bk[0], bk[1]);
          mma<T>(s[0][n + 1], aq, bk[2], bk[3]);
          mma<T>(ds[0][n], ao, bv[0], bv[1]);
          mma<T>(ds[0][n + 1], ao, bv[2], bv[3]);
        }
      }
      const int warp_query = at.first_query + at.warp_row;
      const int query = warp_query + at.lane / 4;
      const int key = first_key + at.lane % 4 * 2;
      if constexpr (kGeneral) bias_scores<false>(s, p, l, slope2, at.b, at.h, query, key);
      if (needs_mask(l, at.first_query, Config::kQueries, first_key, Config::kKeys)) mask_scores(s, l, query, key);
      if (careful) {
#pragma unroll
        for (int i = 0; i < kN * 4; ++i)
          ds[0][i / 4][i % 4] = s[0][i / 4][i % 4] == -INFINITY ? 0.0F : ds[0][i / 4][i % 4];
      }
      if (kGeneral && p.drops) {
        drop_scores(ds, p, at.b, at.h, warp_query, first_key, at.lane);
#pragma unroll
        for (int i = 0; i < kN * 4; ++i) ds[0][i / 4][i % 4] *= p.keep_scale;
      }
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float exponent = fmaf(s[0][n][e], kGeneral ? 1.0F : p.scale_log2, -lse2[e / 2]);
          ds[0][n][e] = fast_exp2(exponent) * (ds[0][n][e] - delta[e / 2]);
        }
      }
#pragma unroll
      for (int step = 0; step < kN / 2; ++step) {
        std::uint32_t a[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float(&pair)[4] = ds[0][2 * step + i / 2];
          a[i] = pack_pair<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
        }
#pragma unroll
        for (int n = 0; n < kO; n += 2) {
          std::uint32_t bk[4];
          load_matrices_transposed(bk, Tile::step(k_row_lane + slot, step * 16, n));
          mma<T>(dq[0][n], a, bk[0], bk[1]);
          mma<T>(dq[0][n + 1], a, bk[2], bk[3]);
        }
      }
    }
    if (careful) break;
    if (__syncthreads_or(any_not_finite(dq) ? 1 : 0) == 0) break;
  }

  // Each warp puts its rows where its queries were: it alone read them.
  const float scale[1][2] = {{p.scale, p.scale}};
  __syncwarp();
  stage<T, Tile>(shared, at.warp_row, dq, scale);
  __syncwarp();
  T* to =
      const_cast<T*>(queries_of<T>(task.dq, l, at.b, at.h)) + static_cast<std::int64_t>(at.first_query) * task.dq.row;
  store_rows<T, Tile, 16>(shared, at.warp_row, to, task.dq, rows, p.depth);
}

template <class T, int kWidth>
void run_backward_queries(const AttentionBackwardTask& task, bool small, const Stream& stream) {
  const AttentionProblem& p = task.problem;
  const auto run = [&]<AttentionMode kMode, bool kSmall>() {
    using Config = QueriesTile<kWidth, kMode, kSmall>;
    const int tiles = static_cast<int>(ceil_div(p.queries, Config::kQueries));
    const std::int64_t bytes = std::int64_t{2} * p.keys * (p.depth + p.value_depth);
    const BlockOrder order = block_order(tiles, p.batch * p.heads, bytes / p.group);
    launch("attention", attention_queries_kernel<T, kWidth, kMode, kSmall>,
           {.grid = dim3(static_cast<unsigned>(tiles * p.batch * p.heads)),
            .block = dim3(Config::kThreads),
            .shared_bytes = Config::kSharedBytes},
           stream, task, order);
  };
  if constexpr (attention_has_small(kWidth)) {
    if (small) return run.template operator()<AttentionMode::general, true>();
  }
  if constexpr (kWidth <= 128) {
    if (p.mode() == AttentionMode::plain) return run.template operator()<AttentionMode::plain, false>();
  }
  run.template operator()<AttentionMode::general, false>();
}

}  // namespace trinix::cuda
