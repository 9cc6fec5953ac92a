#pragma once

#include <trinix/backends/cuda/attention/keys_tile.cuh>

/// @file
/// The backward of attention by tiles of keys: a block of warps, each with 16 kM keys, walks over the queries that see
/// them, of all query heads that share the key head. Scores are computed transposed (keys x queries): rounded, P^T and
/// dS^T are then the left operands of dV += P^T dO and dK += dS^T Q as they lie in the registers. Only dS passes
/// through shared memory, for dQ = dS K. Five products per pair, 10 Sq Sk D operations per head (half where causal).

namespace trinix::cuda {

/// Rounds and stores dk and dv by way of the tiles of the keys and values, which nobody reads any more. Where they are
/// split, `dk` is what this block has, and dv is empty.
template <class T, AttentionMode kMode, class Config, int kM, int kO, int kM2, int kO2>
__device__ inline void finish_keys(const AttentionBackwardTask& task, const BlockOrder& order, char* shared,
                                   const float (&dk)[kM][kO][4], const float (&dv)[kM2][kO2][4]) {
  using Tile = typename Config::Tile;
  const AttentionProblem& p = task.problem;
  const KeysPlace<Config> at(p, order, kept_apart(blockIdx.x), kept_apart(threadIdx.x));
  const auto& l = lengths_of<kMode>(p, at.b);
  const int rows = min(Config::kKeys, l.keys - at.first_key);
  const int warp_row = at.warp * Config::kWarpKeys;
  const auto store = [&](const char* tile, const HeadsView& view, int depth) {
    if (view.data == nullptr) return;
    T* to = const_cast<T*>(keys_of<T>(view, l, at.b, at.h)) + static_cast<std::int64_t>(at.first_key) * view.row;
    store_rows<T, Tile, Config::kWarpKeys>(tile, warp_row, to, view, rows, depth);
  };
  const bool for_values = Config::kSplit && blockIdx.y != 0;
  float scale[kM][2];
  float keep[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    scale[m][0] = scale[m][1] = for_values ? p.keep_scale : p.scale;
    keep[m][0] = keep[m][1] = p.keep_scale;
  }
  stage<T, Tile>(shared, warp_row, dk, scale);
  if constexpr (Config::kSplit) {
    __syncwarp();
    for_values ? store(shared, task.dv, p.value_depth) : store(shared, task.dk, p.depth);
  } else {
    stage<T, Tile>(shared + Config::kKeyBytes, warp_row, dv, keep);
    __syncwarp();
    store(shared, task.dk, p.depth);
    store(shared + Config::kKeyBytes, task.dv, p.value_depth);
  }
}

template <class T, int kWidth, AttentionMode kMode, bool kSmall>
__global__ void __launch_bounds__(KeysTile<kWidth, kMode, kSmall>::kThreads, KeysTile<kWidth, kMode, kSmall>::kBlocks)
    attention_keys_kernel(const __grid_constant__ AttentionBackwardTask task, const BlockOrder order) {
  using Config = KeysTile<kWidth, kMode, kSmall>;
  using Tile = typename Config::Tile;
  using ScoreTile = typename Config::ScoreTile;
  constexpr bool kGeneral = Config::kGeneral;
  constexpr bool kSplit = Config::kSplit;
  constexpr int kM = Config::kM;
  constexpr int kPart = Config::kPart;
  constexpr int kN = kPart / 8;
  constexpr int kO = kWidth / 8;
  extern __shared__ __align__(128) char shared[];
  if (!Config::kHasCode) __trap();  // the other tiles are for this card
  const AttentionProblem& p = task.problem;
  const KeysPlace<Config> at(p, order, blockIdx.x, threadIdx.x);
  const auto& l = lengths_of<kMode>(p, at.b);
  const int key_rows = min(Config::kKeys, l.keys - at.first_key);  // of the block that exist
  if (kGeneral && key_rows <= 0) return;                           // the tile is one of longer sequences
  const bool for_values = kSplit && blockIdx.y != 0;
  // Tiles of queries that see this block: cheap to compute again, and registers are dear.
  const auto tiles_seeing = [&](int first_key) {
    const Span seen = queries_seeing(l, first_key, min(first_key + Config::kKeys, l.keys) - 1);
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
        to, queries_of<T>(p.q, l, b, h) + static_cast<std::int64_t>(query) * p.q.row, p.q.row, l.queries - query,
        p.chunks);
    copy_tile_async<Config::kQueries, kWidth, Config::kThreads>(
        to + Config::kQueryBytes, queries_of<T>(task.dout, l, b, h) + static_cast<std::int64_t>(query) * task.dout.row,
        task.dout.row, l.queries - query, kGeneral ? p.value_chunks : p.chunks);
    constexpr int kPieces = Config::kQueries / 4;
    if (thread < 2 * kPieces) {
      const float* from = (thread < kPieces ? task.lse2 : task.delta) + padded_row(task, l, b, h) + query;
      copy_async(to + 2 * Config::kQueryBytes + thread * 16, from + thread % kPieces * 4, true);
    }
    commit_copies();
  };

  float dk[kM][kO][4] = {};  // where split, the one of the two that this block has
  float dv[kSplit ? 1 : kM][kSplit ? 1 : kO][4] = {};
  int tile = tiles_seeing(at.first_key).first;
  int h = at.h * p.group;
  int left = (tiles_seeing(at.first_key).end - tile) * p.group;
  if (left > 0) {
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(
        k_tile, keys_of<T>(p.k, l, at.b, at.h) + static_cast<std::int64_t>(at.first_key) * p.k.row, p.k.row, key_rows,
        p.chunks);
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(
        v_tile, keys_of<T>(p.v, l, at.b, at.h) + static_cast<std::int64_t>(at.first_key) * p.v.row, p.v.row, key_rows,
        kGeneral ? p.value_chunks : p.chunks);
    copy_queries(h, tile, left & 1);
  }
  // Whether hidden pairs need care, since something that is not finite is about: all of them (-1), those of the tile at
  // which so many are left, or none (0).
  auto* const care = reinterpret_cast<volatile int*>(shared + Config::kCareOffset);
  if (left > 0) {
    await_copies<0>();
    __syncthreads();
    const bool found = holds_not_finite<T, Tile, 2 * Config::kKeys, Config::kThreads>(shared);
    const bool all = __syncthreads_or(found ? 1 : 0) != 0;
    if (all) make_finite<T, Tile, Config::kKeys, Config::kThreads>(shared, shared + Config::kKeyBytes);
    if (threadIdx.x == 0) *care = all ? -1 : 0;
  }

  for (; left > 0; --left) {
    await_copies<0>();
    const std::uint32_t stage_offset = static_cast<std::uint32_t>((left & 1) * Config::kStageBytes);
    bool suspect = false;
    if (threadIdx.x < Config::kQueries / 2) {  // lse2 and delta, of which each thread sees those that it has copied
      const auto* own =
          reinterpret_cast<const Vector<float, 4>*>(shared + kStages + stage_offset + 2 * Config::kQueryBytes) +
          threadIdx.x;
      float check = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) check = fmaf(own->at[i], 0.0F, check);
      suspect = check != check;
    }
    // Now this stage is there, and nobody reads the other one, or the scores, any more.
    if (__syncthreads_or(suspect ? 1 : 0) != 0) {
      make_finite<T, Tile, Config::kQueries, Config::kThreads>(shared + kStages + stage_offset, nullptr);
      if (threadIdx.x == 0 && *care >= 0) *care = left;
      __syncthreads();
    }
    if (left > 1) {
      const Place next = after(h, tile);
      copy_queries(next.h, next.tile, (left - 1) & 1);
    }
    const int first_query = tile * Config::kQueries;

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
      if (sees_nothing(l, query, kPart, warp_key, Config::kWarpKeys)) {
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
      const float slope2 = kGeneral ? slope_of(p, at.b, h) : 0.0F;
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
      const int query_of_lane = query + lane % 4 * 2;
      const int key_of_lane = warp_key + lane / 4;
      if constexpr (kGeneral) bias_scores<true>(s, p, l, slope2, at.b, h, query_of_lane, key_of_lane);
      const auto careful = [&] { return *care < 0 || *care == left; };
      std::uint32_t hidden = 0;  // by the mask, while the row's lse is NaN: the exponential would be NaN as well
      static_assert(!kGeneral || kM * kN * 4 <= 32);
      if (kGeneral && careful()) {
#pragma unroll
        for (int i = 0; i < kM * kN * 4; ++i) {
          hidden |= (s[i / 4 / kN][i / 4 % kN][i % 4] == -INFINITY ? 1U : 0U) << i;
        }
      }
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        const float2 lse2 = rows[4 * n];
#pragma unroll
        for (int m = 0; m < kM; ++m) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            s[m][n][e] = fast_exp2(fmaf(s[m][n][e], kGeneral ? 1.0F : p.scale_log2, e % 2 == 0 ? -lse2.x : -lse2.y));
          }
        }
      }
      if (kGeneral && hidden != 0) {
#pragma unroll
        for (int i = 0; i < kM * kN * 4; ++i) {
          float& probability = s[i / 4 / kN][i / 4 % kN][i % 4];
          probability = (hidden >> i & 1U) != 0 ? 0.0F : probability;
        }
      }
      if (needs_mask(l, query, kPart, warp_key, Config::kWarpKeys)) mask_transposed(s, l, query_of_lane, key_of_lane);

      float ds[kM][kN][4] = {};
      if (!for_values) product(ds, k_lane + Config::kKeyBytes, columns + Config::kQueryBytes);
      if (Config::kDrops || (kGeneral && p.drops)) {
        const DropRule rule(p);
        const bool guarded = careful();
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
              const float gradient = s[m][n][e] * (dp - (e % 2 == 0 ? delta.x : delta.y));
              ds[m][n][e] = guarded && s[m][n][e] == 0 ? 0.0F : gradient;
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
        if (careful()) {
#pragma unroll
          for (int i = 0; i < kM * kN * 4; ++i) {
            float& gradient = ds[i / 4 / kN][i / 4 % kN][i % 4];
            gradient = s[i / 4 / kN][i / 4 % kN][i % 4] == 0 ? 0.0F : gradient;
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
        if constexpr (kSplit) {
          const std::uint32_t from = part_rows + (for_values ? Config::kQueryBytes : 0);
#pragma unroll
          for (int i = 0; i < 4; ++i) dst[0][i] = for_values ? pt[0][i] : dst[0][i];
#pragma unroll
          for (int n = 0; n < kO; n += 2) {
            std::uint32_t b[4];
            load_matrices_transposed(b, Tile::step(from, step * 16, n));
            mma<T>(dk[0][n], dst[0], b[0], b[1]);
            mma<T>(dk[0][n + 1], dst[0], b[2], b[3]);
          }
        } else {
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
    }
    if (task.dq_sum != nullptr && !for_values) {
      __syncthreads();  // all of dS is there
      constexpr int kSumM = Config::kSumM;
      constexpr int kSumN = Config::kSumN;
      const int thread = static_cast<int>(kept_apart(threadIdx.x));
      const int warp = thread / kWarp;
      // In the order of the registers, so that a warp adds 512 bytes in one piece; the last kernel knows it too.
      float* sum = task.dq_sum + warp * Config::kPartFloats + thread % kWarp * 4;
      if constexpr (kGeneral) {
        sum += (padded_row(task, l, at.b, h) / Config::kQueries + tile) * Config::kSumFloats;
      } else {
        sum += (static_cast<std::int64_t>(at.b * p.heads + h) * query_tiles + tile) * Config::kSumFloats;
      }
#pragma unroll 1
      for (int columns = 0; columns < Config::kSumParts; ++columns) {
        float dq[kSumM][kSumN][4] = {};
        // 64 keys at a time: the second half is often hidden from all queries of the tile.
        constexpr int kHalf = Config::kKeys < 64 ? Config::kKeys : 64;
#pragma unroll 1
        for (int half = 0; half < Config::kKeys; half += kHalf) {
          if (sees_nothing(l, first_query, Config::kQueries, at.first_key + half, kHalf)) continue;
          const std::uint32_t ds_lane =
              score_tile + half * ScoreTile::kPitch + lane_by_column<ScoreTile>(thread % kWarp);
          const std::uint32_t dq_k_lane = k_tile + half * Tile::kPitch + lane_by_row<Tile>(thread % kWarp);
          const int first_chunk = (columns * Config::kColumnWarps + warp / Config::kRowWarps) * kSumN;
#pragma unroll
          for (int step = 0; step < kHalf / 16; ++step) {
            std::uint32_t a[kSumM][4];
#pragma unroll
            for (int m = 0; m < kSumM; ++m) {
              const int chunk = (warp % Config::kRowWarps * kSumM + m) * 2;
              load_matrices_transposed(a[m], ScoreTile::step(ds_lane, step * 16, chunk));
            }
#pragma unroll
            for (int n = 0; n < kSumN; n += 2) {
              std::uint32_t bk[4];
              load_matrices_transposed(bk, Tile::step(dq_k_lane, step * 16, first_chunk + n));
#pragma unroll
              for (int m = 0; m < kSumM; ++m) {
                mma<T>(dq[m][n], a[m], bk[0], bk[1]);
                mma<T>(dq[m][n + 1], a[m], bk[2], bk[3]);
              }
            }
          }
        }
#pragma unroll
        for (int m = 0; m < kSumM; ++m) {
#pragma unroll
          for (int n = 0; n < kSumN; ++n) add_global(sum + (m * kSumN + n) * 4 * kWarp, dq[m][n]);
        }
        sum += Config::kWarps * Config::kPartFloats;
      }
    }
    const Place next = after(h, tile);
    h = next.h;
    tile = next.tile;
  }
  await_copies<0>();
  __syncthreads();
  finish_keys<T, kMode, Config>(task, order, shared, dk, dv);
}

template <class T, int kWidth>
void run_backward_keys(const AttentionBackwardTask& task, bool small, const Stream& stream) {
  const AttentionProblem& p = task.problem;
  const auto run = [&]<AttentionMode kMode, bool kSmall>() {
    using Config = KeysTile<kWidth, kMode, kSmall>;
    const int tiles = static_cast<int>(ceil_div(p.keys, Config::kKeys));
    const std::int64_t bytes = std::int64_t{4} * p.queries * (p.depth + p.value_depth);
    const BlockOrder order = block_order(tiles, p.batch * p.key_heads, bytes * p.group);
    launch("attention", attention_keys_kernel<T, kWidth, kMode, kSmall>,
           {.grid = dim3(static_cast<unsigned>(tiles * p.batch * p.key_heads), Config::kSplit ? 2 : 1),
            .block = dim3(Config::kThreads),
            .shared_bytes = Config::kSharedBytes},
           stream, task, order);
  };
  if constexpr (attention_has_small(kWidth)) {
    if (small) return run.template operator()<AttentionMode::general, true>();
  }
  if constexpr (kWidth <= 128) {
    if (p.mode() == AttentionMode::plain) return run.template operator()<AttentionMode::plain, false>();
    if (p.mode() == AttentionMode::drops) return run.template operator()<AttentionMode::drops, false>();
  }
  run.template operator()<AttentionMode::general, false>();
}

}  // namespace trinix::cuda
