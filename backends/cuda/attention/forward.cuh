#pragma once

#include <trinix/backends/cuda/attention/tiles.cuh>

/// @file
/// The forward of attention: per block a tile of queries, four warps with 16 kM rows each. Floor: 4 Sq Sk D products
/// per head (half of it where causal); memory is read once per tile of queries, from L2 but for the first time.

namespace trinix::cuda {

/// Tile sizes. Two blocks per multiprocessor, so that one computes exponentials while the other multiplies.
template <int kWidth, bool kDrops>
struct ForwardTile {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kM = kDrops ? 1 : 2;  // the generator needs the registers of the second 16 rows
  static constexpr int kQueries = kWarps * kM * 16;
  static constexpr int kKeys = 64;
  static constexpr int kBlocks = kWidth == 64 && !kDrops ? 3 : 2;  // per multiprocessor
  // Unrolled further, more operands are loaded ahead at 128 columns than the registers hold.
  static constexpr int kUnroll = kWidth == 128 && !kDrops ? 2 : 8;
  using Tile = SharedTile<kWidth>;
  static constexpr int kQueryBytes = kQueries * Tile::kPitch;
  static constexpr int kKeyBytes = kKeys * Tile::kPitch;
  // Queries, two stages of keys and values, and two pointers.
  static constexpr int kSharedBytes = kQueryBytes + 4 * kKeyBytes + 128;
  static_assert(kSharedBytes <= attention_shared_bytes(kWidth, false));
};

/// Maximum (of the raw scores) and sum per row of a lane; rows are g and g + 8 of each 16.
template <int kM>
struct RowState {
  float max[kM][2];
  float sum[kM][2];  // of this lane's columns only
};

/// Replaces scores by exp(score - state.max). The maximum follows the scores only when one of the warp's rows has
/// outgrown it by more than 2^kSlack: it cancels out of the result, so any number near the true one does, and most
/// tiles need no rescaling of what was summed before them.
template <int kM, int kN, int kO>
__device__ inline void online_softmax(float (&s)[kM][kN][4], RowState<kM>& state, float (&o)[kM][kO][4],
                                      float scale_log2) {
  constexpr float kSlack = 8;
  float largest[kM][2];
  bool outgrown = false;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float x = state.max[m][half];
#pragma unroll
      for (int n = 0; n < kN; ++n) x = fmaxf(x, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
      x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 1));
      x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 2));
      largest[m][half] = x;
      outgrown = outgrown || (x - state.max[m][half]) * scale_log2 > kSlack;
    }
  }
  if (__any_sync(0xffffffffU, outgrown)) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // A row that has seen nothing yet has nothing to rescale; -inf minus -inf must not get there.
        const float x = largest[m][half];
        const float factor = x == -INFINITY ? 1.0F : fast_exp2((state.max[m][half] - x) * scale_log2);
        state.max[m][half] = x;
        state.sum[m][half] *= factor;
#pragma unroll
        for (int n = 0; n < kO; ++n) {
          o[m][n][2 * half] *= factor;
          o[m][n][2 * half + 1] *= factor;
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float shift = state.max[m][half] == -INFINITY ? 0.0F : state.max[m][half] * scale_log2;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          s[m][n][e] = fast_exp2(fmaf(s[m][n][e], scale_log2, -shift));
          state.sum[m][half] += s[m][n][e];
        }
      }
    }
  }
}

/// Scores of hidden pairs become -inf. `query` and `key` are those of element (0, 0) of the lane.
template <int kM, int kN>
__device__ inline void mask_scores(float (&s)[kM][kN][4], const AttentionProblem& p, int query, int key) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = query + m * 16 + half * 8;
      const int first = row + p.first_offset - key;
      const int last = min(row + p.last_offset, p.keys - 1) - key;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = n * 8 + e;
          if (column < first || column > last) s[m][n][2 * half + e] = -INFINITY;
        }
      }
    }
  }
}

/// Bits of a lane's four elements in a 16 x 8 block of (query, key): bit e as element e of the accumulator.
/// @param row the first random block of this lane's own row, which is g + 8 (t mod 2); @param block of its four keys.
__device__ inline std::uint32_t kept_by_query(const DropRule& rule, std::uint64_t row, int block, int lane) {
  const int odd = lane & 1;
  std::uint32_t bits = rule.four(row + static_cast<std::uint64_t>(block)) << (4 * odd);
  bits |= __shfl_xor_sync(0xffffffffU, bits, 1);
  return (bits >> (2 * odd) & 3U) | (bits >> (4 + 2 * odd) & 3U) << 2;
}

/// Where a block and a warp of it stand.
template <class Config>
struct ForwardPlace {
  int b, h;
  int head;         ///< in all batches
  int first_query;  ///< of the block
  int rows;         ///< of the block that exist
  int warp_row;     ///< the warp's first row
  int lane;

  __device__ ForwardPlace(const AttentionProblem& p, const BlockOrder& order, unsigned block, unsigned thread) {
    const BlockOrder::Place place = order.place(block);
    head = place.head;
    b = head / p.heads;
    h = head % p.heads;
    first_query = (order.tiles - 1 - place.tile) * Config::kQueries;  // the last sees most where causal
    rows = min(Config::kQueries, p.queries - first_query);
    warp_row = static_cast<int>(thread) / kWarp * Config::kM * 16;
    lane = static_cast<int>(thread) % kWarp;
  }
};

/// Normalises and stores. Each warp puts its rows where its queries were: it alone read them.
template <class T, class Config, int kM, int kO>
__device__ inline void finish_forward(const AttentionForwardTask& task, const BlockOrder& order, char* shared,
                                      const float (&o)[kM][kO][4], const RowState<kM>& state) {
  const AttentionProblem& p = task.problem;
  // Computed again, so that nothing of it waits in registers while the loop runs.
  const ForwardPlace<Config> at(p, order, kept_apart(blockIdx.x), kept_apart(threadIdx.x));
  float factors[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = state.sum[m][half];
      sum += __shfl_xor_sync(0xffffffffU, sum, 1);
      sum += __shfl_xor_sync(0xffffffffU, sum, 2);
      factors[m][half] = sum == 0 ? 0.0F : p.keep_scale / sum;
      const int row = at.warp_row + m * 16 + half * 8 + at.lane / 4;
      if (at.lane % 4 == 0 && row < at.rows) {
        task.lse[static_cast<std::int64_t>(at.head) * p.queries + at.first_query + row] =
            sum == 0 ? -INFINITY : state.max[m][half] * p.scale + logf(sum);
      }
    }
  }
  using Tile = typename Config::Tile;
  __syncwarp();
  stage<T, Tile>(shared, at.warp_row, o, factors);
  __syncwarp();
  T* out = const_cast<T*>(head_of<T>(task.out, at.b, at.h)) + static_cast<std::int64_t>(at.first_query) * task.out.row;
  store_rows<T, Tile, kM * 16>(shared, at.warp_row, out, task.out, at.rows, p.depth);
}

template <class T, int kWidth, bool kDrops>
__global__ void __launch_bounds__(ForwardTile<kWidth, kDrops>::kThreads, ForwardTile<kWidth, kDrops>::kBlocks)
    attention_forward_kernel(const __grid_constant__ AttentionForwardTask task, const BlockOrder order) {
  using Config = ForwardTile<kWidth, kDrops>;
  using Tile = typename Config::Tile;
  constexpr int kM = Config::kM;
  constexpr int kN = Config::kKeys / 8;
  constexpr int kO = kWidth / 8;
  extern __shared__ __align__(128) char shared[];
  const AttentionProblem& p = task.problem;
  const ForwardPlace<Config> at(p, order, blockIdx.x, threadIdx.x);
  const Span seen = keys_seen(p, at.first_query, at.first_query + at.rows - 1);
  const int first_tile = seen.first / Config::kKeys;
  const int end_tile = seen.end > seen.first ? (seen.end + Config::kKeys - 1) / Config::kKeys : first_tile;

  const int chunks = p.depth / 8;
  const std::uint32_t q_tile = shared_address(shared);
  const std::uint32_t k_tile = q_tile + Config::kQueryBytes;
  const std::uint32_t v_tile = k_tile + 2 * Config::kKeyBytes;
  // Where the keys and values of the head begin: in shared memory, since the registers are full.
  auto* const heads = reinterpret_cast<const T* volatile*>(shared + Config::kQueryBytes + 4 * Config::kKeyBytes);
  if (threadIdx.x < 2) heads[threadIdx.x] = head_of<T>(threadIdx.x == 0 ? p.k : p.v, at.b, at.h / p.group);
  const auto copy_keys = [&](int tile) {
    const int slot = (tile & 1) * Config::kKeyBytes;
    const std::int64_t key = static_cast<std::int64_t>(tile) * Config::kKeys;
    const int count = p.keys - tile * Config::kKeys;
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(k_tile + slot, heads[0] + key * p.k.row, p.k.row, count,
                                                             chunks);
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(v_tile + slot, heads[1] + key * p.v.row, p.v.row, count,
                                                             chunks);
    commit_copies();
  };

  float o[kM][kO][4] = {};
  RowState<kM> state;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    state.max[m][0] = state.max[m][1] = -INFINITY;
    state.sum[m][0] = state.sum[m][1] = 0;
  }
  if (end_tile > first_tile) {
    copy_tile_async<Config::kQueries, kWidth, Config::kThreads>(
        q_tile, head_of<T>(p.q, at.b, at.h) + static_cast<std::int64_t>(at.first_query) * p.q.row, p.q.row, at.rows,
        chunks);
    __syncthreads();
    copy_keys(end_tile - 1);
  }
  // From the diagonal backwards: the masked tiles come first, and the state needs no special case for them later.
  for (int tile = end_tile - 1; tile >= first_tile; --tile) {
    await_copies<0>();
    __syncthreads();  // this tile is there, and nobody reads the other slot any more
    if (tile > first_tile) copy_keys(tile - 1);
    const std::uint32_t slot = static_cast<std::uint32_t>((tile & 1) * Config::kKeyBytes);
    const int first_key = tile * Config::kKeys;
    const int thread = static_cast<int>(kept_apart(threadIdx.x));  // addresses shall not wait in registers
    const int warp_row = thread / kWarp * kM * 16;
    const int lane = thread % kWarp;
    const int warp_query = at.first_query + warp_row;
    if (sees_nothing(p, warp_query, kM * 16, first_key, Config::kKeys)) continue;
    const std::uint32_t q_lane = q_tile + lane_by_row<Tile>(lane) + warp_row * Tile::kPitch;
    const std::uint32_t k_lane = k_tile + slot + lane_by_column<Tile>(lane);
    const std::uint32_t v_lane = v_tile + slot + lane_by_row<Tile>(lane);

    float s[kM][kN][4] = {};
#pragma unroll Config::kUnroll
    for (int step = 0; step < kWidth / 16; ++step) {
      std::uint32_t a[kM][4];
#pragma unroll
      for (int m = 0; m < kM; ++m) load_matrices(a[m], Tile::step(q_lane, m * 16, step * 2));
#pragma unroll
      for (int n = 0; n < kN; n += 2) {
        std::uint32_t bk[4];
        load_matrices(bk, Tile::step(k_lane, n * 8, step * 2));
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          mma<T>(s[m][n], a[m], bk[0], bk[1]);
          mma<T>(s[m][n + 1], a[m], bk[2], bk[3]);
        }
      }
    }
    if (needs_mask(p, warp_query, kM * 16, first_key, Config::kKeys)) {
      mask_scores(s, p, warp_query + lane / 4, first_key + lane % 4 * 2);
    }
    online_softmax(s, state, o, p.scale_log2);
    if constexpr (kDrops) {
      const DropRule rule(p);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        const std::uint64_t row =
            rule.row(p, at.b, at.h, at.first_query + warp_row + m * 16 + lane / 4 + 8 * (lane & 1));
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          const std::uint32_t kept = kept_by_query(rule, row, first_key / 4 + 2 * n + lane % 4 / 2, lane);
#pragma unroll
          for (int e = 0; e < 4; ++e) s[m][n][e] = (kept >> e & 1U) != 0 ? s[m][n][e] : 0.0F;
        }
      }
    }
#pragma unroll
    for (int step = 0; step < kN / 2; ++step) {
      std::uint32_t a[kM][4];
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float(&pair)[4] = s[m][2 * step + i / 2];
          a[m][i] = pack_pair<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int n = 0; n < kO; n += 2) {
        std::uint32_t bv[4];
        load_matrices_transposed(bv, Tile::step(v_lane, step * 16, n));
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          mma<T>(o[m][n], a[m], bv[0], bv[1]);
          mma<T>(o[m][n + 1], a[m], bv[2], bv[3]);
        }
      }
    }
  }

  finish_forward<T, Config>(task, order, shared, o, state);
}

template <class T, int kWidth>
void run_forward(const AttentionForwardTask& task, const Stream& stream) {
  const AttentionProblem& p = task.problem;
  const auto run = [&]<bool kDrops>() {
    using Config = ForwardTile<kWidth, kDrops>;
    const int tiles = static_cast<int>(ceil_div(p.queries, Config::kQueries));
    const std::int64_t bytes = std::int64_t{4} * p.keys * p.depth;
    const BlockOrder order = block_order(tiles, p.batch * p.heads, bytes / p.group);
    launch("attention", attention_forward_kernel<T, kWidth, kDrops>,
           {.grid = dim3(static_cast<unsigned>(tiles * p.batch * p.heads)),
            .block = dim3(Config::kThreads),
            .shared_bytes = Config::kSharedBytes},
           stream, task, order);
  };
  if (p.drops) {
    run.template operator()<true>();
  } else {
    run.template operator()<false>();
  }
}

}  // namespace trinix::cuda
