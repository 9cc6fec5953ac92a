#pragma once

#include <trinix/backends/cuda/attention/forward.cuh>

/// @file
/// dq by tiles of queries: a block of eight warps, each with 16 queries, walks over the keys that they see and computes
/// the scores once more, dQ = scale dS K. No sum leaves its block, so the bits are the same in every run. Three
/// products per pair, 6 Sq Sk D operations per head.

namespace trinix::cuda {

template <int kWidth>
struct QueriesTile {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kM = 1;
  static constexpr int kQueries = kWarps * 16;
  static constexpr int kKeys = 64;
  using Tile = SharedTile<kWidth>;
  static constexpr int kQueryBytes = kQueries * Tile::kPitch;
  static constexpr int kKeyBytes = kKeys * Tile::kPitch;
  // Queries and their gradients, and two stages of keys and values.
  static constexpr int kSharedBytes = 2 * kQueryBytes + 4 * kKeyBytes;
  static_assert(kSharedBytes <= attention_shared_bytes(kWidth, true));
};

template <class T, int kWidth, bool kDrops>
__global__ void __launch_bounds__(QueriesTile<kWidth>::kThreads, 1)
    attention_queries_kernel(const __grid_constant__ AttentionBackwardTask task, const BlockOrder order) {
  using Config = QueriesTile<kWidth>;
  using Tile = typename Config::Tile;
  constexpr int kN = Config::kKeys / 8;
  constexpr int kO = kWidth / 8;
  extern __shared__ __align__(128) char shared[];
  const AttentionProblem& p = task.problem;
  const ForwardPlace<Config> at(p, order, blockIdx.x, threadIdx.x);
  const Span seen = keys_seen(p, at.first_query, at.first_query + at.rows - 1);
  const int first_tile = seen.first / Config::kKeys;
  const int tiles = seen.end > seen.first ? (seen.end + Config::kKeys - 1) / Config::kKeys - first_tile : 0;

  const int chunks = p.depth / 8;
  const T* k = head_of<T>(p.k, at.b, at.h / p.group);
  const T* v = head_of<T>(p.v, at.b, at.h / p.group);
  const std::uint32_t q_tile = shared_address(shared);
  const std::uint32_t k_tile = q_tile + 2 * Config::kQueryBytes;
  const std::uint32_t v_tile = k_tile + 2 * Config::kKeyBytes;
  const auto copy_keys = [&](int tile, int slot) {
    const std::int64_t key = static_cast<std::int64_t>(first_tile + tile) * Config::kKeys;
    const int count = p.keys - static_cast<int>(key);
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(k_tile + slot * Config::kKeyBytes, k + key * p.k.row,
                                                             p.k.row, count, chunks);
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(v_tile + slot * Config::kKeyBytes, v + key * p.v.row,
                                                             p.v.row, count, chunks);
    commit_copies();
  };
  if (tiles > 0) {
    copy_tile_async<Config::kQueries, kWidth, Config::kThreads>(
        q_tile, head_of<T>(p.q, at.b, at.h) + static_cast<std::int64_t>(at.first_query) * p.q.row, p.q.row, at.rows,
        chunks);
    copy_tile_async<Config::kQueries, kWidth, Config::kThreads>(
        q_tile + Config::kQueryBytes,
        head_of<T>(task.dout, at.b, at.h) + static_cast<std::int64_t>(at.first_query) * task.dout.row, task.dout.row,
        at.rows, chunks);
    copy_keys(tiles - 1, (tiles - 1) & 1);
  }
  float lse2[2];
  float delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = static_cast<std::int64_t>(at.head) * task.padded_queries + at.first_query + at.warp_row +
                             half * 8 + at.lane / 4;
    lse2[half] = task.lse2[row];
    delta[half] = task.delta[row];
  }
  const std::uint32_t q_lane = q_tile + lane_by_row<Tile>(at.lane) + at.warp_row * Tile::kPitch;
  const std::uint32_t k_lane = k_tile + lane_by_column<Tile>(at.lane);
  const std::uint32_t k_row_lane = k_tile + lane_by_row<Tile>(at.lane);

  float dq[1][kO][4] = {};
  for (int tile = tiles - 1; tile >= 0; --tile) {
    await_copies<0>();
    __syncthreads();  // this tile is there, and nobody reads the other slot any more
    if (tile > 0) copy_keys(tile - 1, (tile - 1) & 1);
    const std::uint32_t slot = static_cast<std::uint32_t>((tile & 1) * Config::kKeyBytes);
    const int first_key = (first_tile + tile) * Config::kKeys;
    const std::uint32_t q_now = kept_apart(q_lane);

    float s[1][kN][4] = {};
    float ds[1][kN][4] = {};
#pragma unroll
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
    if (needs_mask(p, at.first_query, Config::kQueries, first_key, Config::kKeys)) {
      mask_scores(s, p, at.first_query + at.warp_row + at.lane / 4, first_key + at.lane % 4 * 2);
    }
    if constexpr (kDrops) {
      const DropRule rule(p);
      const std::uint64_t row = rule.row(p, at.b, at.h, at.first_query + at.warp_row + at.lane / 4 + 8 * (at.lane & 1));
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        const std::uint32_t kept = kept_by_query(rule, row, first_key / 4 + 2 * n + at.lane % 4 / 2, at.lane);
#pragma unroll
        for (int e = 0; e < 4; ++e) ds[0][n][e] = (kept >> e & 1U) != 0 ? ds[0][n][e] * p.keep_scale : 0.0F;
      }
    }
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        ds[0][n][e] = fast_exp2(fmaf(s[0][n][e], p.scale_log2, -lse2[e / 2])) * (ds[0][n][e] - delta[e / 2]);
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

  // Each warp puts its rows where its queries were: it alone read them.
  const float scale[1][2] = {{p.scale, p.scale}};
  __syncwarp();
  stage<T, Tile>(shared, at.warp_row, dq, scale);
  __syncwarp();
  T* to = const_cast<T*>(head_of<T>(task.dq, at.b, at.h)) + static_cast<std::int64_t>(at.first_query) * task.dq.row;
  store_rows<T, Tile, 16>(shared, at.warp_row, to, task.dq, at.rows, p.depth);
}

template <class T, int kWidth>
void run_backward_queries(const AttentionBackwardTask& task, const Stream& stream) {
  using Config = QueriesTile<kWidth>;
  const AttentionProblem& p = task.problem;
  const int tiles = static_cast<int>(ceil_div(p.queries, Config::kQueries));
  const BlockOrder order = block_order(tiles, p.batch * p.heads, std::int64_t{4} * p.keys * p.depth / p.group);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(tiles * p.batch * p.heads)),
                          .block = dim3(Config::kThreads),
                          .shared_bytes = Config::kSharedBytes};
  if (p.drops) {
    launch("attention", attention_queries_kernel<T, kWidth, true>, shape, stream, task, order);
  } else {
    launch("attention", attention_queries_kernel<T, kWidth, false>, shape, stream, task, order);
  }
}

}  // namespace trinix::cuda
