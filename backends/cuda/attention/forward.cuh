#pragma once

#include <trinix/backends/cuda/attention/finite.cuh>
#include <trinix/backends/cuda/attention/scores.cuh>

/// @file
/// The forward of attention: per block a tile of queries, four warps with 16 kM rows each. Floor: 4 Sq Sk D products
/// per head (half of it where causal); memory is read once per tile of queries, from L2 but for the first time.

namespace trinix::cuda {

/// Tile sizes. Two blocks per multiprocessor, so that one computes exponentials while the other multiplies.
template <int kWidth, AttentionMode kMode>
struct ForwardTile {
  static constexpr bool kGeneral = kMode == AttentionMode::general;
  static constexpr bool kDrops = kMode == AttentionMode::drops;
  static constexpr bool kWide = kWidth > 128;
  static_assert(kGeneral || !kWide);
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kM = kDrops || kWide ? 1 : 2;  // the generator needs the registers of the second 16 rows
  static constexpr int kQueries = kWarps * kM * 16;
  static constexpr int kKeys = kWide ? 32 : 64;
  static constexpr int kPart = kGeneral ? 32 : kKeys;  // keys whose scores are in the registers at a time
  static constexpr int kBlocks = kWidth == 64 && kMode == AttentionMode::plain ? 3 : 2;  // per multiprocessor
  // Unrolled further, more operands are loaded ahead at 128 columns than the registers hold.
  static constexpr int kUnroll = kWidth >= 128 && !kDrops ? kGeneral ? 1 : 2 : 8;
  using Tile = SharedTile<kWidth>;
  static constexpr int kQueryBytes = kQueries * Tile::kPitch;
  static constexpr int kKeyBytes = kKeys * Tile::kPitch;
  // Queries, two stages of keys and values, and a ForwardNotes.
  static constexpr int kSharedBytes = kQueryBytes + 4 * kKeyBytes + 128;
  static_assert(kSharedBytes <= attention_shared_bytes(kWidth, false, false));
};

/// Maximum (of the raw scores; in general, of the exponents of two) and sum per row of a lane; rows are g and g + 8 of
/// each 16.
template <int kM>
struct RowState {
  float max[kM][2];
  float sum[kM][2];  // of this lane's columns only
};

/// Replaces scores by exp(score - state.max), where scale_log2 makes exponents of two of the scores. The maximum
/// follows the scores only when one of the warp's rows has outgrown it by more than 2^kSlack: it cancels out of the
/// result, so any number near the true one does, and most tiles need no rescaling of what was summed before them.
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

/// Where a block and a warp of it stand.
template <class Config>
struct ForwardPlace {
  int b, h;
  int head;         ///< in all batches
  int first_query;  ///< of the block
  int warp_row;     ///< the warp's first row
  int lane;

  __device__ ForwardPlace(const AttentionProblem& p, const BlockOrder& order, unsigned block, unsigned thread) {
    const BlockOrder::Place place = order.place(block);
    head = place.head;
    b = head / p.heads;
    h = head % p.heads;
    first_query = (order.tiles - 1 - place.tile) * Config::kQueries;  // the last sees most where causal
    warp_row = static_cast<int>(thread) / kWarp * Config::kM * 16;
    lane = static_cast<int>(thread) % kWarp;
  }
};

/// What a block keeps in shared memory, since the registers are full.
template <class T>
struct ForwardNotes {
  const T* keys;    ///< of the head
  const T* values;  ///< of the head
  int first_tile;   ///< of the keys
  bool careful;     ///< values are made finite
};

/// Normalises and stores. Each warp puts its rows where its queries were: it alone read them.
template <class T, AttentionMode kMode, class Config, int kM, int kO>
__device__ inline void finish_forward(const AttentionForwardTask& task, const BlockOrder& order, char* shared,
                                      const float (&o)[kM][kO][4], const RowState<kM>& state) {
  const AttentionProblem& p = task.problem;
  // Computed again, so that nothing of it waits in registers while the loop runs.
  const ForwardPlace<Config> at(p, order, kept_apart(blockIdx.x), kept_apart(threadIdx.x));
  const auto& l = lengths_of<kMode>(p, at.b);
  const int rows = min(Config::kQueries, l.queries - at.first_query);
  float* lse = task.lse + l.query_start + at.first_query;
  if constexpr (Config::kGeneral) {
    lse += at.b * p.lse_batch + at.h * p.lse_head;
  } else {
    lse += static_cast<std::int64_t>(at.head) * p.queries;
  }
  const float unit = Config::kGeneral ? 0.6931471805599453F : p.scale;  // of state.max
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
      if (at.lane % 4 == 0 && row < rows) {
        lse[row] = sum == 0 ? -INFINITY : state.max[m][half] * unit + logf(sum);
      }
    }
  }
  using Tile = typename Config::Tile;
  __syncwarp();
  stage<T, Tile>(shared, at.warp_row, o, factors);
  __syncwarp();
  T* out =
      const_cast<T*>(queries_of<T>(task.out, l, at.b, at.h)) + static_cast<std::int64_t>(at.first_query) * task.out.row;
  store_rows<T, Tile, kM * 16>(shared, at.warp_row, out, task.out, rows, p.value_depth);
}

/// One walk of the block over its keys: output not yet normalised, maxima and sums.
template <class T, int kWidth, AttentionMode kMode, int kM, int kO>
__device__ __forceinline__ void attend(const AttentionForwardTask& task, const BlockOrder& order, unsigned block,
                                       char* shared, volatile ForwardNotes<T>* notes, float (&o)[kM][kO][4],
                                       RowState<kM>& state) {
  using Config = ForwardTile<kWidth, kMode>;
  using Tile = typename Config::Tile;
  constexpr bool kGeneral = Config::kGeneral;
  constexpr int kN = Config::kPart / 8;
  const AttentionProblem& p = task.problem;
  const ForwardPlace<Config> at(p, order, block, kept_apart(threadIdx.x));
  const auto& l = lengths_of<kMode>(p, at.b);
  const int rows = min(Config::kQueries, l.queries - at.first_query);  // none: the tile is one of longer sequences
  const Span seen = keys_seen(l, at.first_query, at.first_query + rows - 1);
  const bool any = seen.end > seen.first && (!kGeneral || rows > 0);
  const int first_tile = seen.first / Config::kKeys;
  const int end_tile = any ? (seen.end + Config::kKeys - 1) / Config::kKeys : first_tile;

  const std::uint32_t q_tile = shared_address(shared);
  const std::uint32_t k_tile = q_tile + Config::kQueryBytes;
  const std::uint32_t v_tile = k_tile + 2 * Config::kKeyBytes;
  const auto copy_keys = [&](int tile) {
    const int slot = (tile & 1) * Config::kKeyBytes;
    const std::int64_t key = static_cast<std::int64_t>(tile) * Config::kKeys;
    const int count = l.keys - tile * Config::kKeys;
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(k_tile + slot, notes->keys + key * p.k.row, p.k.row, count,
                                                             p.chunks);
    copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(v_tile + slot, notes->values + key * p.v.row, p.v.row,
                                                             count, kGeneral ? p.value_chunks : p.chunks);
    commit_copies();
  };

#pragma unroll
  for (int m = 0; m < kM; ++m) {
    state.max[m][0] = state.max[m][1] = -INFINITY;
    state.sum[m][0] = state.sum[m][1] = 0;
#pragma unroll
    for (int n = 0; n < kO; ++n) o[m][n][0] = o[m][n][1] = o[m][n][2] = o[m][n][3] = 0;
  }
  if (end_tile <= first_tile) return;
  if (threadIdx.x == 0) {
    notes->keys = keys_of<T>(p.k, l, at.b, at.h / p.group);
    notes->values = keys_of<T>(p.v, l, at.b, at.h / p.group);
    notes->first_tile = first_tile;
  }
  copy_tile_async<Config::kQueries, kWidth, Config::kThreads>(
      q_tile, queries_of<T>(p.q, l, at.b, at.h) + static_cast<std::int64_t>(at.first_query) * p.q.row, p.q.row, rows,
      p.chunks);
  __syncthreads();
  copy_keys(end_tile - 1);
  // From the diagonal backwards: the masked tiles come first, and the state needs no special case for them later.
  for (int tile = end_tile - 1; tile >= notes->first_tile; --tile) {
    await_copies<0>();
    __syncthreads();  // this tile is there, and nobody reads the other slot any more
    if (tile > notes->first_tile) copy_keys(tile - 1);
    const int slot = (tile & 1) * Config::kKeyBytes;
    const int tile_key = tile * Config::kKeys;
    if (notes->careful) {
      char* const keys = shared + Config::kQueryBytes + slot;
      make_finite<T, Tile, Config::kKeys, Config::kThreads>(keys + 2 * Config::kKeyBytes, keys);
      __syncthreads();
    }
    const int thread = static_cast<int>(kept_apart(threadIdx.x));  // addresses shall not wait in registers
    const int warp_row = thread / kWarp * kM * 16;
    const int lane = thread % kWarp;
    const int warp_query = at.first_query + warp_row;
    const float slope2 = kGeneral ? slope_of(p, at.b, at.h) : 0.0F;
#pragma unroll 1
    for (int part = 0; part < Config::kKeys; part += Config::kPart) {
      const int first_key = tile_key + part;
      if (sees_nothing(l, warp_query, kM * 16, first_key, Config::kPart)) continue;
      const std::uint32_t rows_before = static_cast<std::uint32_t>(slot + part * Tile::kPitch);
      const std::uint32_t q_lane = q_tile + lane_by_row<Tile>(lane) + warp_row * Tile::kPitch;
      const std::uint32_t k_lane = k_tile + rows_before + lane_by_column<Tile>(lane);
      const std::uint32_t v_lane = v_tile + rows_before + lane_by_row<Tile>(lane);

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
      const int query = warp_query + lane / 4;
      const int key = first_key + lane % 4 * 2;
      if constexpr (kGeneral) bias_scores<false>(s, p, l, slope2, at.b, at.h, query, key);
      if (needs_mask(l, warp_query, kM * 16, first_key, Config::kPart)) mask_scores(s, l, query, key);
      online_softmax(s, state, o, kGeneral ? 1.0F : p.scale_log2);
      if (Config::kDrops || (kGeneral && p.drops)) drop_scores(s, p, at.b, at.h, warp_query, first_key, lane);
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
  }
}

template <class T, int kWidth, AttentionMode kMode>
__global__ void __launch_bounds__(ForwardTile<kWidth, kMode>::kThreads, ForwardTile<kWidth, kMode>::kBlocks)
    attention_forward_kernel(const __grid_constant__ AttentionForwardTask task, const BlockOrder order) {
  using Config = ForwardTile<kWidth, kMode>;
  extern __shared__ __align__(128) char shared[];
  auto* const notes = reinterpret_cast<volatile ForwardNotes<T>*>(shared + Config::kSharedBytes - 128);
  if (threadIdx.x == 0) notes->careful = false;
  float o[Config::kM][kWidth / 8][4];
  RowState<Config::kM> state;
  // Once more, with care, where something that is not finite has turned up: it may come from hidden values. All is
  // computed again for it, so that nothing waits in registers while the loop runs.
#pragma unroll 1
  while (true) {
    attend<T, kWidth, kMode>(task, order, kept_apart(blockIdx.x), shared, notes, o, state);
    const bool again = !notes->careful && any_not_finite(o);
    if (__syncthreads_or(again ? 1 : 0) == 0) break;
    if (threadIdx.x == 0) notes->careful = true;
  }
  finish_forward<T, kMode, Config>(task, order, shared, o, state);
}

template <class T, int kWidth>
void run_forward(const AttentionForwardTask& task, const Stream& stream) {
  const AttentionProblem& p = task.problem;
  const auto run = [&]<AttentionMode kMode>() {
    using Config = ForwardTile<kWidth, kMode>;
    const int tiles = static_cast<int>(ceil_div(p.queries, Config::kQueries));
    const std::int64_t bytes = std::int64_t{2} * p.keys * (p.depth + p.value_depth);
    const BlockOrder order = block_order(tiles, p.batch * p.heads, bytes / p.group);
    launch("attention", attention_forward_kernel<T, kWidth, kMode>,
           {.grid = dim3(static_cast<unsigned>(tiles * p.batch * p.heads)),
            .block = dim3(Config::kThreads),
            .shared_bytes = Config::kSharedBytes},
           stream, task, order);
  };
  if constexpr (kWidth <= 128) {
    if (p.mode() == AttentionMode::plain) return run.template operator()<AttentionMode::plain>();
    if (p.mode() == AttentionMode::drops) return run.template operator()<AttentionMode::drops>();
  }
  run.template operator()<AttentionMode::general>();
}

}  // namespace trinix::cuda
