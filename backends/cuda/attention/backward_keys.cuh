#pragma once

#include <trinix/backends/cuda/attention/keys_tile.cuh>

/// @file
/// The backward of attention by tiles of keys: a block of warps, each with 16 kM keys, walks over the queries that see
/// them, of all query heads that share the key head. Scores are computed transposed (keys x queries): rounded, P^T and
/// dS^T are then the left operands of dV += P^T dO and dK += dS^T Q as they lie in the registers. Only dS passes
/// through shared memory, for dQ = dS K. Five products per pair, 10 Sq Sk D operations per head (half where causal).

namespace trinix::cuda {

/// Rounds and stores dk and dv by way of the tiles of the keys and values, which nobody reads any more.
template <class T, class Config, int kM, int kO>
__device__ inline void finish_keys(const AttentionBackwardTask& task, const BlockOrder& order, char* shared,
                                   const float (&dk)[kM][kO][4], const float (&dv)[kM][kO][4]) {
  using Tile = typename Config::Tile;
  const AttentionProblem& p = task.problem;
  const KeysPlace<Config> at(p, order, kept_apart(blockIdx.x), kept_apart(threadIdx.x));
  const int warp_row = at.warp * Config::kWarpKeys;
  float scale[kM][2];
  float keep[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    scale[m][0] = scale[m][1] = p.scale;
    keep[m][0] = keep[m][1] = p.keep_scale;
  }
  stage<T, Tile>(shared, warp_row, dk, scale);
  stage<T, Tile>(shared + Config::kKeyBytes, warp_row, dv, keep);
  __syncwarp();
  const auto store = [&](const char* tile, const HeadsView& view) {
    if (view.data == nullptr) return;
    T* to = const_cast<T*>(head_of<T>(view, at.b, at.h)) + static_cast<std::int64_t>(at.first_key) * view.row;
    store_rows<T, Tile, Config::kWarpKeys>(tile, warp_row, to, view, at.rows, p.depth);
  };
  store(shared, task.dk);
  store(shared + Config::kKeyBytes, task.dv);
}

template <class T, int kWidth, bool kDrops>
__global__ void __launch_bounds__(KeysTile<kWidth, kDrops>::kThreads, KeysTile<kWidth, kDrops>::kBlocks)
    attention_keys_kernel(const __grid_constant__ AttentionBackwardTask task, const BlockOrder order) {
  using Config = KeysTile<kWidth, kDrops>;
  using Tile = typename Config::Tile;
  using ScoreTile = typename Config::ScoreTile;
  constexpr int kM = Config::kM;
  constexpr int kPart = Config::kPart;
  constexpr int kN = kPart / 8;
  constexpr int kO = kWidth / 8;
  extern __shared__ __align__(128) char shared[];
  const AttentionProblem& p = task.problem;
  const KeysPlace<Config> at(p, order, blockIdx.x, threadIdx.x);
  // Tiles of queries that see this block: cheap to compute again, and registers are dear.
  const auto tiles_seeing = [&](int first_key) {
    const Span seen = queries_seeing(p, first_key, min(first_key + Config::kKeys, p.keys) - 1);
    const int first = seen.first / Config::kQueries;
    return Span{first, seen.end > seen.first ? (seen.end + Config::kQueries - 1) / Config::kQueries : first};
  };
  struct Place {
    int h;
    int tile;
  };
  const auto after = [&](int h, int tile) {
    const Span seeing = tiles_seeing(static_cast<int>(kept_apart(at.first_key)));
    const bool wraps = tile + 1 == seeing.end;
    return Place{wraps ? h + 1 : h, wraps ? seeing.first : tile + 1};
  };
  const int query_tiles = task.padded_queries / Config::kQueries;

  const int chunks = p.depth / 8;
  const std::uint32_t k_tile = shared_address(shared);
  const std::uint32_t v_tile = k_tile + Config::kKeyBytes;
  const std::uint32_t score_tile = v_tile + Config::kKeyBytes;
  constexpr int kStages = 2 * Config::kKeyBytes + Config::kScoreBytes;

  // Queries, their gradients, lse2 and delta of the tile `tile` of head h.
  const auto copy_queries = [&](int h, int tile, int slot) {
    const int b = static_cast<int>(kept_apart(at.b));
    const int thread = static_cast<int>(kept_apart(threadIdx.x));
    const std::uint32_t to = k_tile + kStages + slot * Config::kStageBytes;
    const int query = tile * Config::kQueries;
    copy_tile_async<Config::kQueries, kWidth, Config::kThreads>(
        to, head_of<T>(p.q, b, h) + static_cast<std::int64_t>(query) * p.q.row, p.q.row, p.queries - query, chunks);
    copy_tile_async<Config::kQueries, kWidth, Config::kThreads>(
        to + Config::kQueryBytes, head_of<T>(task.dout, b, h) + static_cast<std::int64_t>(query) * task.dout.row,
        task.dout.row, p.queries - query, chunks);
    constexpr int kPieces = Config::kQueries / 4;
    if (thread < 2 * kPieces) {
      const float* from = (thread < kPieces ? task.lse2 : task.delta) +
                          static_cast<std::int64_t>(b * p.heads + h) * task.padded_queries + query;
      copy_async(to + 2 * Config::kQueryBytes + thread * 16, from + thread % kPieces * 4, true);
    }
    commit_copies();
  };

  float dk[kM][kO][4] = {};
  float dv[kM][kO][4] = {};
  int tile = tiles_seeing(at.first_key).first;
  int h = at.h * p.group;
  int left = (tiles_seeing(at.first_key).end - tile) * p.group;
  if (left > 0) {
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(
        k_tile, head_of<T>(p.k, at.b, at.h) + static_cast<std::int64_t>(at.first_key) * p.k.row, p.k.row, at.rows,
        chunks);
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(
        v_tile, head_of<T>(p.v, at.b, at.h) + static_cast<std::int64_t>(at.first_key) * p.v.row, p.v.row, at.rows,
        chunks);
    copy_queries(h, tile, left & 1);
  }

  for (; left > 0; --left) {
    await_copies<0>();
    __syncthreads();  // this stage is there; nobody reads the other one, or the scores, any more
    if (left > 1) {
      const Place next = after(h, tile);
      copy_queries(next.h, next.tile, (left - 1) & 1);
    }
    const int first_query = tile * Config::kQueries;
    const std::uint32_t stage_offset = static_cast<std::uint32_t>((left & 1) * Config::kStageBytes);

#pragma unroll 1
    for (int part = 0; part < Config::kQueries; part += kPart) {
      const int query = first_query + part;
      const int thread = static_cast<int>(kept_apart(threadIdx.x));  // addresses shall not wait in registers
      const int lane = thread % kWarp;
      const int warp_row = thread / kWarp * Config::kWarpKeys;
      const int warp_key = at.first_key + warp_row;
      // Two keys of dS per lane and 8 x 8 block: g, and two queries, 2t and 2t + 1.
      char* const scores = shared + 2 * Config::kKeyBytes + lane % 4 * 4;
      const int score_row = warp_row + lane / 4;
      if (sees_nothing(p, query, kPart, warp_key, Config::kWarpKeys)) {
#pragma unroll
        for (int i = 0; i < 2 * kM * kN; ++i) {
          *reinterpret_cast<std::uint32_t*>(scores + ScoreTile::offset(score_row + i / kN * 8, i % kN + part / 8)) = 0;
        }
        continue;
      }
      const std::uint32_t k_lane = k_tile + warp_row * Tile::kPitch + lane_by_row<Tile>(lane);
      const std::uint32_t part_tile = k_tile + kStages + stage_offset + part * Tile::kPitch;
      const std::uint32_t columns = part_tile + lane_by_column<Tile>(lane);
      const std::uint32_t part_rows = part_tile + lane_by_row<Tile>(lane);
      const auto* rows = reinterpret_cast<const float2*>(shared + kStages + stage_offset + 2 * Config::kQueryBytes) +
                         part / 2 + lane % 4;  // lse2 of two queries at rows[4 n], delta behind them
      // s = K Q^T, and below ds = V dO^T
      const auto product = [&](float(&to)[kM][kN][4], std::uint32_t left_operand, std::uint32_t right_operand) {
#pragma unroll
        for (int step = 0; step < kWidth / 16; ++step) {
          std::uint32_t a[kM][4];
#pragma unroll
          for (int m = 0; m < kM; ++m) load_matrices(a[m], Tile::step(left_operand, m * 16, step * 2));
#pragma unroll
          for (int n = 0; n < kN; n += 2) {
            std::uint32_t bq[4];
            load_matrices(bq, Tile::step(right_operand, n * 8, step * 2));
#pragma unroll
            for (int m = 0; m < kM; ++m) {
              mma<T>(to[m][n], a[m], bq[0], bq[1]);
              mma<T>(to[m][n + 1], a[m], bq[2], bq[3]);
            }
          }
        }
      };
      float s[kM][kN][4] = {};
      product(s, k_lane, columns);
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        const float2 lse2 = rows[4 * n];
#pragma unroll
        for (int m = 0; m < kM; ++m) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            s[m][n][e] = fast_exp2(fmaf(s[m][n][e], p.scale_log2, e % 2 == 0 ? -lse2.x : -lse2.y));
          }
        }
      }
      if (needs_mask(p, query, kPart, warp_key, Config::kWarpKeys)) {
        mask_transposed(s, p, query + lane % 4 * 2, warp_key + lane / 4);
      }

      float ds[kM][kN][4] = {};
      product(ds, k_lane + Config::kKeyBytes, columns + Config::kQueryBytes);
      if constexpr (kDrops) {
        const DropRule rule(p);
        std::uint64_t row = rule.row(p, at.b, h, query);
#pragma unroll
        for (int n = 0; n < kN; ++n, row += 8 * rule.blocks_per_row) {
          const float2 delta = rows[4 * n + Config::kQueries / 2];
#pragma unroll
          for (int m = 0; m < kM; ++m) {
            const std::uint32_t kept = kept_by_key(rule, row, warp_key + m * 16, lane);
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const bool keep = (kept >> e & 1U) != 0;
              const float dp = keep ? ds[m][n][e] * p.keep_scale : 0.0F;
              ds[m][n][e] = s[m][n][e] * (dp - (e % 2 == 0 ? delta.x : delta.y));
              s[m][n][e] = keep ? s[m][n][e] : 0.0F;
            }
          }
        }
      } else {
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          const float2 delta = rows[4 * n + Config::kQueries / 2];
#pragma unroll
          for (int m = 0; m < kM; ++m) {
#pragma unroll
            for (int e = 0; e < 4; ++e) ds[m][n][e] = s[m][n][e] * (ds[m][n][e] - (e % 2 == 0 ? delta.x : delta.y));
          }
        }
      }

#pragma unroll
      for (int step = 0; step < kN / 2; ++step) {
        std::uint32_t pt[kM][4];
        std::uint32_t dst[kM][4];
#pragma unroll
        for (int m = 0; m < kM; ++m) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int n = 2 * step + i / 2;
            const int e = i % 2 * 2;
            pt[m][i] = pack_pair<T>(s[m][n][e], s[m][n][e + 1]);
            dst[m][i] = pack_pair<T>(ds[m][n][e], ds[m][n][e + 1]);
            *reinterpret_cast<std::uint32_t*>(
                scores + ScoreTile::offset(score_row + m * 16 + i % 2 * 8, n + part / 8)) = dst[m][i];
          }
        }
#pragma unroll
        for (int n = 0; n < kO; n += 2) {
          std::uint32_t bo[4];
          load_matrices_transposed(bo, Tile::step(part_rows + Config::kQueryBytes, step * 16, n));
          std::uint32_t bq[4];
          load_matrices_transposed(bq, Tile::step(part_rows, step * 16, n));
#pragma unroll
          for (int m = 0; m < kM; ++m) {
            mma<T>(dv[m][n], pt[m], bo[0], bo[1]);
            mma<T>(dv[m][n + 1], pt[m], bo[2], bo[3]);
            mma<T>(dk[m][n], dst[m], bq[0], bq[1]);
            mma<T>(dk[m][n + 1], dst[m], bq[2], bq[3]);
          }
        }
      }
    }
    if (task.dq_sum != nullptr) {
      __syncthreads();  // all of dS is there
      constexpr int kSumM = Config::kSumM;
      constexpr int kSumN = Config::kSumN;
      const int thread = static_cast<int>(kept_apart(threadIdx.x));
      const int warp = thread / kWarp;
      float dq[kSumM][kSumN][4] = {};
      // 64 keys at a time: the second half is often hidden from all queries of the tile.
#pragma unroll 1
      for (int half = 0; half < Config::kKeys; half += 64) {
        if (sees_nothing(p, first_query, Config::kQueries, at.first_key + half, 64)) continue;
        const std::uint32_t ds_lane = score_tile + half * ScoreTile::kPitch + lane_by_column<ScoreTile>(thread % kWarp);
        const std::uint32_t dq_k_lane = k_tile + half * Tile::kPitch + lane_by_row<Tile>(thread % kWarp);
#pragma unroll
        for (int step = 0; step < 4; ++step) {
          std::uint32_t a[kSumM][4];
#pragma unroll
          for (int m = 0; m < kSumM; ++m) {
            const int chunk = (warp % Config::kRowWarps * kSumM + m) * 2;
            load_matrices_transposed(a[m], ScoreTile::step(ds_lane, step * 16, chunk));
          }
#pragma unroll
          for (int n = 0; n < kSumN; n += 2) {
            std::uint32_t bk[4];
            const int chunk = warp / Config::kRowWarps * kSumN + n;
            load_matrices_transposed(bk, Tile::step(dq_k_lane, step * 16, chunk));
#pragma unroll
            for (int m = 0; m < kSumM; ++m) {
              mma<T>(dq[m][n], a[m], bk[0], bk[1]);
              mma<T>(dq[m][n + 1], a[m], bk[2], bk[3]);
            }
          }
        }
      }
      // In the order of the registers, so that a warp adds 512 bytes in one piece; the last kernel knows it too.
      float* sum = task.dq_sum +
                   (static_cast<std::int64_t>(at.b * p.heads + h) * query_tiles + tile) * Config::kSumFloats +
                   warp * (Config::kSumFloats / Config::kWarps) + thread % kWarp * 4;
#pragma unroll
      for (int m = 0; m < kSumM; ++m) {
#pragma unroll
        for (int n = 0; n < kSumN; ++n) add_global(sum + (m * kSumN + n) * 4 * kWarp, dq[m][n]);
      }
    }
    const Place next = after(h, tile);
    h = next.h;
    tile = next.tile;
  }
  await_copies<0>();
  __syncthreads();
  finish_keys<T, Config>(task, order, shared, dk, dv);
}

template <class T, int kWidth>
void run_backward_keys(const AttentionBackwardTask& task, const Stream& stream) {
  using Config = KeysTile<kWidth, false>;
  const AttentionProblem& p = task.problem;
  const int tiles = static_cast<int>(ceil_div(p.keys, Config::kKeys));
  const BlockOrder order = block_order(tiles, p.batch * p.key_heads, std::int64_t{8} * p.queries * p.depth * p.group);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(tiles * p.batch * p.key_heads)),
                          .block = dim3(Config::kThreads),
                          .shared_bytes = Config::kSharedBytes};
  if (p.drops) {
    launch("attention", attention_keys_kernel<T, kWidth, true>, shape, stream, task, order);
  } else {
    launch("attention", attention_keys_kernel<T, kWidth, false>, shape, stream, task, order);
  }
}

}  // namespace trinix::cuda
