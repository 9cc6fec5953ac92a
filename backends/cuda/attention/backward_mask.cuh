#pragma once

#include <trinix/backends/cuda/attention/forward.cuh>
#include <trinix/backends/cuda/properties.h>

/// @file
/// The gradient of an additive mask: a block per 64 x 64 tile of it, four warps with 16 queries each, walks over the
/// heads that share the tile and adds up their ds in registers. It computes the scores once more, two products per
/// pair, 4 Sq Sk D operations per head, so that nothing is added up in global memory: a mask shared by all heads would
/// take as many atomic additions as there are scores. Operands come 64 columns at a time, so one kernel does for all
/// head dims.

namespace trinix::cuda {

struct MaskTile {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kM = 1;
  static constexpr int kSide = kWarps * 16;  ///< queries, keys and columns
  using Tile = SharedTile<kSide>;
  static constexpr int kBytes = kSide * Tile::kPitch;
  static constexpr int kStageBytes = 2 * kBytes;  ///< the columns of the queries and keys, or of dout and the values
};

template <class T>
__global__ void __launch_bounds__(MaskTile::kThreads, 2)
    attention_mask_kernel(const __grid_constant__ AttentionMaskTask all) {
  using Config = MaskTile;
  using Tile = Config::Tile;
  constexpr int kSide = Config::kSide;
  constexpr int kN = kSide / 8;
  __shared__ __align__(128) char shared[2 * Config::kStageBytes];
  const AttentionBackwardTask& task = all.backward;
  const AttentionProblem& p = task.problem;
  const Sequence l(p, 0);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const int warp_row = thread / kWarp * 16;
  // The block's place: part of the sum, head and batch of the mask, tile of queries, tile of keys.
  int rest = static_cast<int>(blockIdx.x);
  const auto next = [&](int count) {
    const int i = rest % count;
    rest /= count;
    return i;
  };
  const int first_key = next(all.key_tiles) * kSide;
  const int first_query = next(all.query_tiles) * kSide;
  const int mask_head = next(all.heads);
  const int mask_batch = next(all.batches);
  const int part = rest;
  if (sees_nothing(l, first_query, kSide, first_key, kSide)) return;
  // Of the heads (b, h) that share the tile, in row-major order, this block takes [begin, end).
  const int heads = all.heads == 1 ? p.heads : 1;
  const int sharing = heads * (all.batches == 1 ? p.batch : 1);
  const int begin = static_cast<int>(static_cast<std::int64_t>(sharing) * part / all.parts);
  const int end = static_cast<int>(static_cast<std::int64_t>(sharing) * (part + 1) / all.parts);
  const auto head_at = [&](int i) { return all.heads == 1 ? i % heads : mask_head; };
  const auto batch_at = [&](int i) { return all.batches == 1 ? i / heads : mask_batch; };

  const std::uint32_t tiles = shared_address(shared);
  const int score_steps = (p.chunks + kN - 1) / kN;
  const int steps = score_steps + (p.value_chunks + kN - 1) / kN;
  // Step `step` of the i-th head: some columns of the queries and keys; after those, of dout and the values.
  const auto copy = [&](int i, int step, int slot) {
    const bool scores = step < score_steps;
    const int first = (scores ? step : step - score_steps) * kN;  // chunk
    const int chunks = (scores ? p.chunks : p.value_chunks) - first;
    const int b = batch_at(i);
    const int h = head_at(i);
    const HeadsView& rows = scores ? p.q : task.dout;
    const HeadsView& columns = scores ? p.k : p.v;
    const std::uint32_t to = tiles + slot * Config::kStageBytes;
    copy_tile_async<kSide, kSide, Config::kThreads>(to, head_of<T>(rows, b, h) + first_query * rows.row + first * 8,
                                                    rows.row, l.queries - first_query, chunks);
    copy_tile_async<kSide, kSide, Config::kThreads>(
        to + Config::kBytes, head_of<T>(columns, b, h / p.group) + first_key * columns.row + first * 8, columns.row,
        l.keys - first_key, chunks);
    commit_copies();
  };

  float sum[1][kN][4] = {};
  if (begin < end) copy(begin, 0, 0);
  int slot = 0;
  for (int i = begin; i < end; ++i) {
    const int b = batch_at(i);
    const int h = head_at(i);
    float s[1][kN][4] = {};
    float dp[1][kN][4] = {};
#pragma unroll 1
    for (int step = 0; step < steps; ++step, slot ^= 1) {
      await_copies<0>();
      __syncthreads();  // this stage is there, and nobody reads the other one any more
      if (step + 1 < steps) {
        copy(i, step + 1, slot ^ 1);
      } else if (i + 1 < end) {
        copy(i + 1, 0, slot ^ 1);
      }
      const std::uint32_t rows = tiles + slot * Config::kStageBytes + warp_row * Tile::kPitch + lane_by_row<Tile>(lane);
      const std::uint32_t columns = tiles + slot * Config::kStageBytes + Config::kBytes + lane_by_column<Tile>(lane);
      const auto multiply = [&](float(&to)[1][kN][4]) {
#pragma unroll
        for (int k = 0; k < kSide / 16; ++k) {
          std::uint32_t a[4];
          load_matrices(a, Tile::step(rows, 0, k * 2));
#pragma unroll
          for (int n = 0; n < kN; n += 2) {
            std::uint32_t b2[4];
            load_matrices(b2, Tile::step(columns, n * 8, k * 2));
            mma<T>(to[0][n], a, b2[0], b2[1]);
            mma<T>(to[0][n + 1], a, b2[2], b2[3]);
          }
        }
      };
      step < score_steps ? multiply(s) : multiply(dp);
    }
    const int query = first_query + warp_row + lane / 4;
    const int key = first_key + lane % 4 * 2;
    bias_scores<false>(s, p, l, slope_of(p, b, h), b, h, query, key);
    if (needs_mask(l, first_query, kSide, first_key, kSide)) mask_scores(s, l, query, key);
    if (p.drops) drop_scores(dp, p, b, h, first_query + warp_row, first_key, lane);
    const std::int64_t row = padded_row(task, l, b, h) + query;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float lse2 = task.lse2[row + half * 8];
      const float delta = task.delta[row + half * 8];
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          const float probability = fast_exp2(s[0][n][e] - lse2);
          // A hidden pair may hold NaN.
          if (s[0][n][e] != -INFINITY) sum[0][n][e] += probability * (dp[0][n][e] * p.keep_scale - delta);
        }
      }
    }
  }

  float* const to = all.dmask + static_cast<std::int64_t>(mask_batch * all.heads + mask_head) * l.queries * l.keys;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = first_query + warp_row + half * 8 + lane / 4;
    if (query >= l.queries) continue;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = first_key + n * 8 + lane % 4 * 2 + e;
        if (key >= l.keys) continue;
        float* const at = to + static_cast<std::int64_t>(query) * l.keys + key;
        if (all.parts == 1) {
          *at = sum[0][n][2 * half + e];
        } else {
          atomicAdd(at, sum[0][n][2 * half + e]);
        }
      }
    }
  }
}

template <class T>
void run_backward_mask(AttentionMaskTask task, bool deterministic, const Stream& stream) {
  const AttentionProblem& p = task.backward.problem;
  task.query_tiles = static_cast<int>(ceil_div(p.queries, MaskTile::kSide));
  task.key_tiles = static_cast<int>(ceil_div(p.keys, MaskTile::kSide));
  const std::int64_t tiles = static_cast<std::int64_t>(task.query_tiles) * task.key_tiles * task.batches * task.heads;
  const std::int64_t sharing = static_cast<std::int64_t>(p.batch) * p.heads / (task.batches * task.heads);
  // A small mask of many heads would leave most of the card idle: then some blocks share a tile.
  constexpr int kBlocks = 4;  // per multiprocessor
  const std::int64_t wanted = ceil_div(std::int64_t{kBlocks} * multiprocessors(stream), tiles);
  task.parts = deterministic ? 1 : static_cast<int>(std::min(sharing, wanted));
  launch("attention", attention_mask_kernel<T>,
         {.grid = dim3(static_cast<unsigned>(tiles * task.parts)), .block = dim3(MaskTile::kThreads)}, stream, task);
}

}  // namespace trinix::cuda
