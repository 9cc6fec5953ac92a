#pragma once

#include <trinix/backends/cuda/attention/finite.cuh>
#include <trinix/backends/cuda/attention/flash/backward_tile.cuh>
#include <trinix/backends/cuda/attention/flash/flash.h>
#include <trinix/backends/cuda/attention/flash/order.cuh>
#include <trinix/backends/cuda/attention/flash/panels.cuh>
#include <trinix/backends/cuda/attention/flash/problem.h>
#include <trinix/backends/cuda/attention/scores.cuh>
#include <trinix/backends/cuda/device/tensor_copy.cuh>
#include <trinix/backends/cuda/device/wgmma.cuh>

/// @file
/// The backward of attention on Hopper, by tiles of keys: 10 Sq Sk D operations per head (half where causal).
///
/// A block stays and takes tiles of 128 keys. One thread fetches a tile's keys and values, and then, in two rings, the
/// queries that see it and the gradients of their outputs. Two warpgroups, each with 64 of the keys, compute
/// transposed, keys by queries, so that rounded P^T and dS^T are left operands as they lie in the registers:
///
///   S^T = K Q^T; dP^T = V dO^T          P^T = exp(S^T - lse) meanwhile
///   dS^T = P^T (dP^T - delta)           to shared memory as well
///   dV += P^T dO
///   dQ = dS K                           of all 128 keys, half of it each; added to f32 in global memory
///   dK += dS^T Q

namespace trinix::cuda {

struct FlashBackwardTask {
  AttentionBackwardTask base;
  CUtensorMap q, dout, k, v;
  BlockOrder order;
};

/// What one thread does for the others: it fetches.
template <class Config>
__device__ inline void fetch_backward(const FlashBackwardTask& task, const FlashBackwardShared<Config>& shared) {
  const AttentionProblem& p = task.base.problem;
  prefetch(task.q);
  prefetch(task.dout);
  prefetch(task.k);
  prefetch(task.v);
  RingPlace<Config::kKeyStages> keys;
  RingPlace<Config::kStages> queries;
#pragma unroll 1
  for (int round = 0, item; (item = item_of_round(round)) < task.order.items(); ++round) {
    const FlashBackwardWork<Config> work(task.order, item, p);
    if (work.end <= work.first) continue;
    await(shared.keys_read(keys.slot()), keys.parity() ^ 1);
    arrive_expecting(shared.keys_there(keys.slot()), 2 * Config::kKeyBytes);
#pragma unroll
    for (int panel = 0; panel < Config::kPanels; ++panel) {
      const int at = panel * Config::kKeyPanel;
      copy_box(shared.keys(keys.slot()) + at, task.k, shared.keys_there(keys.slot()), panel * 64, work.first_key,
               work.h, work.b, kKeepInCache);
      copy_box(shared.values(keys.slot()) + at, task.v, shared.keys_there(keys.slot()), panel * 64, work.first_key,
               work.h, work.b, kKeepInCache);
    }
    keys.advance();
#pragma unroll 1
    for (int h = work.h * p.group; h < (work.h + 1) * p.group; ++h) {
      const std::int64_t row = static_cast<std::int64_t>(work.b * p.heads + h) * task.base.padded_queries;
#pragma unroll 1
      for (int tile = work.first; tile < work.end; ++tile) {
        const int slot = queries.slot();
        const int query = tile * Config::kQueries;
        const auto fetch = [&](const CUtensorMap& map, std::uint32_t to, const float* rows, std::uint32_t rows_to,
                               Barrier read, Barrier there) {
          await(read, queries.parity() ^ 1);
          arrive_expecting(there, Config::kQueryBytes + Config::kRowBytes);
#pragma unroll
          for (int panel = 0; panel < Config::kPanels; ++panel) {
            copy_box(to + panel * Config::kQueryPanel, map, there, panel * 64, query, h, work.b, kKeepInCache);
          }
          copy_bytes(rows_to, rows + row + query, Config::kRowBytes, there);
        };
        fetch(task.q, shared.queries(slot), task.base.lse2, shared.lse2(slot), shared.queries_read(slot),
              shared.queries_there(slot));
        fetch(task.dout, shared.gradients(slot), task.base.delta, shared.delta(slot), shared.gradients_read(slot),
              shared.gradients_there(slot));
        queries.advance();
      }
    }
  }
}

/// Both warpgroups that multiply wait for one another.
__device__ inline void sync_groups() { sync_named<256>(1); }

/// Rounds 16 rows of dk or dv of a warp to its rows of `panels`, which nobody else reads any more, and stores them.
template <class T, class Config, int kO>
__device__ inline void store_keys(const FlashBackwardTask& task, const FlashBackwardWork<Config>& work, char* panels,
                                  int warp_row, const float (&acc)[kO][4], float factor, const HeadsView& view,
                                  int depth) {
  if (view.data == nullptr) return;
  const float factors[2] = {factor, factor};
  T* const to = const_cast<T*>(head_of<T>(view, work.b, work.h)) + static_cast<std::int64_t>(work.first_key) * view.row;
  store_by_panels<T, Config::kScorePanel>(panels, warp_row, acc, factors, to, view, work.rows, depth);
  __syncwarp();
}

/// Makes a tile of panels finite, by both warpgroups.
template <class T, int kRows>
__device__ inline void make_panels_finite(std::uint32_t tile, std::uint32_t noted) {
  constexpr int kShift = 128;  // threads that fetch
  char* const at = static_cast<char*>(__cvta_shared_to_generic(tile));
  char* const note = noted == 0 ? nullptr : static_cast<char*>(__cvta_shared_to_generic(noted));
  make_finite<T, SharedTile<64>, kRows, 256, kShift>(at, note);
  fence_shared_for_async();
}

/// What a warpgroup that multiplies does.
template <class T, int kWidth, class Config>
__device__ __forceinline__ void differentiate(const FlashBackwardTask& task, const FlashBackwardShared<Config>& shared,
                                              int group) {
  constexpr int kN = Config::kQueries / 8;
  constexpr int kO = kWidth / 8;
  const AttentionProblem& p = task.base.problem;
  const bool speaks = threadIdx.x % 128 == 0;
  const int warp_row = group * 64 + static_cast<int>(threadIdx.x) % 128 / kWarp * 16;
  RingPlace<Config::kKeyStages> keys;
  RingPlace<Config::kStages> queries;
  const bool suspect = *task.base.suspect != 0;

#pragma unroll 1
  for (int round = 0, item; (item = item_of_round(round)) < task.order.items(); ++round) {
    float dk[kO][4];
    float dv[kO][4];
#pragma unroll
    for (int n = 0; n < kO; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) dk[n][e] = dv[n][e] = 0;
    }
    const FlashBackwardWork<Config> work(task.order, item, p);
    bool careful = false;
    if (work.end > work.first) {
      await(shared.keys_there(keys.slot()), keys.parity());
      // Something that is not finite among keys or values must not reach those who do not see it, by way of 0 times
      // NaN.
      const auto* const tiles = static_cast<const char*>(__cvta_shared_to_generic(shared.keys(keys.slot())));
      if (holds_not_finite<T, SharedTile<64>, 2 * Config::kPanels * Config::kKeys, 256, 128>(tiles)) *shared.note() = 1;
      sync_groups();
      const bool found = *shared.note() != 0;
      careful = suspect || found;
      if (found)
        make_panels_finite<T, Config::kPanels * Config::kKeys>(shared.keys(keys.slot()), shared.values(keys.slot()));
      sync_groups();
      if (found && threadIdx.x == 128) *shared.note() = 0;
    }
    const int group_key = work.first_key + group * 64;
    int h = work.h * p.group;
    int tile = work.first;
#pragma unroll 1
    while (tile < work.end) {
      const int slot = queries.slot();
      float s[1][kN][4];
      float ds[1][kN][4];
      const auto start_transposed = [&](float(&to)[kN][4], std::uint32_t left_operand, std::uint32_t right_operand) {
#pragma unroll
        for (int step = 0; step < kWidth / 16; ++step) {
          multiply<T, Lies::by_rows, Lies::by_rows>(
              to, rows_operand(left_operand + group * 64 * kPanelPitch + step / 4 * Config::kKeyPanel + step % 4 * 32),
              rows_operand(right_operand + step / 4 * Config::kQueryPanel + step % 4 * 32), step > 0);
        }
        commit_products();
      };
      await(shared.queries_there(slot), queries.parity());
      await(shared.gradients_there(slot), queries.parity());
      if (careful) {
        sync_groups();
        make_panels_finite<T, Config::kPanels * Config::kQueries>(shared.queries(slot), 0);
        sync_groups();
      }
      begin_products();
      start_transposed(s[0], shared.keys(keys.slot()), shared.queries(slot));
      start_transposed(ds[0], shared.values(keys.slot()), shared.gradients(slot));
      const int lane = static_cast<int>(threadIdx.x) % kWarp;
      const int query = tile * Config::kQueries;
      const bool drops = Config::kDrops || (Config::kGeneral && p.drops);
      std::uint32_t kept = 0;  // bit 4 n + e: element e of block n stays
      if (drops) {
        const DropRule rule(p);
        std::uint64_t row = rule.row(p, work.b, h, query);
#pragma unroll
        for (int n = 0; n < kN; ++n, row += 8 * rule.blocks_per_row) {
          kept |= kept_by_key(rule, row, work.first_key + warp_row, lane) << (4 * n % 32);
        }
      }
      await_products<1>();
      pin(s[0]);
      const auto* const rows = static_cast<const float2*>(__cvta_shared_to_generic(shared.lse2(slot))) + lane % 4;
      constexpr int kDelta = Config::kStages * Config::kRowBytes / 8;  // from lse2 to delta
      const int query_of_lane = query + lane % 4 * 2;
      const int key_of_lane = work.first_key + warp_row + lane / 4;
      std::uint32_t hidden = 0;  // by the mask, while the row's lse is NaN: the exponential would be NaN as well
      if constexpr (Config::kGeneral) {
        static_assert(kN * 4 <= 32);
        bias_scores<true>(s, p, p, slope_of(p, work.b, h), work.b, h, query_of_lane, key_of_lane);
        if (careful) {
#pragma unroll
          for (int i = 0; i < kN * 4; ++i) hidden |= (s[0][i / 4][i % 4] == -INFINITY ? 1U : 0U) << i;
        }
      }
      if constexpr (Config::kSlopes) {
        add_slope<true>(s, p, p, slope_of(p, work.b, h), query_of_lane, key_of_lane);
      }
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        const float2 lse2 = rows[4 * n];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          s[0][n][e] = fast_exp2(fmaf(s[0][n][e], Config::kGeneral || Config::kSlopes ? 1.0F : p.scale_log2,
                                      e % 2 == 0 ? -lse2.x : -lse2.y));
        }
      }
      if (Config::kGeneral && hidden != 0) {
#pragma unroll
        for (int i = 0; i < kN * 4; ++i) s[0][i / 4][i % 4] = (hidden >> i & 1U) != 0 ? 0.0F : s[0][i / 4][i % 4];
      }
      if (needs_mask(p, query, Config::kQueries, group_key, 64)) mask_transposed(s, p, query_of_lane, key_of_lane);
      await_products<0>();
      pin(ds[0]);
      if (drops) {
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          const float2 delta = rows[4 * n + kDelta];
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const bool keep = (kept >> (4 * n % 32 + e) & 1U) != 0;
            const float dp = keep ? ds[0][n][e] * p.keep_scale : 0.0F;
            const float gradient = s[0][n][e] * (dp - (e % 2 == 0 ? delta.x : delta.y));
            ds[0][n][e] = careful && s[0][n][e] == 0 ? 0.0F : gradient;
            s[0][n][e] = keep ? s[0][n][e] : 0.0F;
          }
        }
      } else {
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          const float2 delta = rows[4 * n + kDelta];
#pragma unroll
          for (int e = 0; e < 4; ++e) ds[0][n][e] = s[0][n][e] * (ds[0][n][e] - (e % 2 == 0 ? delta.x : delta.y));
        }
        if (careful) {
#pragma unroll
          for (int n = 0; n < kN; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) ds[0][n][e] = s[0][n][e] == 0 ? 0.0F : ds[0][n][e];
          }
        }
      }
      std::uint32_t pt[kN / 2][4];
      std::uint32_t dst[kN / 2][4];
      pack_scores<T>(pt, s);
      pack_scores<T>(dst, ds);
      const std::uint32_t scores = shared.scores(slot);
      {
        const int storing = static_cast<int>(kept_apart(threadIdx.x)) % kWarp;
        const int row = warp_row + storing % 16;
#pragma unroll
        for (int step = 0; step < kN / 2; ++step) {
          store_matrices(
              scores + step / 4 * Config::kScorePanel + SharedTile<64>::offset(row, step % 4 * 2 + storing / 16),
              dst[step]);
        }
      }
      pin(pt);
      pin(dv);
      begin_products();
#pragma unroll
      for (int step = 0; step < kN / 2; ++step) {
        multiply<T, Lies::by_columns>(
            dv, pt[step], columns_operand(shared.gradients(slot) + step * 16 * kPanelPitch, Config::kQueryPanel), true);
      }
      commit_products();
      fence_shared_for_async();
      sync_groups();  // all of dS is there

      float dq[Config::kSumColumns / 8][4];
      pin(dst);
      pin(dk);
      begin_products();
      {
        // 64 queries of all columns, or all queries of half of the columns: a panel or half of one.
        const std::uint32_t a = scores + (Config::kSplitsQueries ? group * Config::kScorePanel : 0);
        const std::uint32_t b = shared.keys(keys.slot()) +
                                (Config::kSplitsQueries ? 0 : group * (Config::kPanels == 1 ? 64 : Config::kKeyPanel));
#pragma unroll
        for (int step = 0; step < Config::kKeys / 16; ++step) {
          multiply<T, Lies::by_columns, Lies::by_columns>(
              dq, columns_operand(a + step * 16 * kPanelPitch, Config::kScorePanel),
              columns_operand(b + step * 16 * kPanelPitch, Config::kKeyPanel), step > 0);
        }
      }
      commit_products();
#pragma unroll
      for (int step = 0; step < kN / 2; ++step) {
        multiply<T, Lies::by_columns>(
            dk, dst[step], columns_operand(shared.queries(slot) + step * 16 * kPanelPitch, Config::kQueryPanel), true);
      }
      commit_products();
      await_products<1>();
      pin(dq);
      pin(dv);
      if (speaks) arrive(shared.gradients_read(slot));
      if (task.base.dq_sum != nullptr) {
        const std::int64_t tiles = task.base.padded_queries / Config::kQueries;
        float* const sum = task.base.dq_sum + ((work.b * p.heads + h) * tiles + tile) * Config::kSumFloats +
                           group * (Config::kSumFloats / 2) + threadIdx.x % 128 * 4;
#pragma unroll
        for (int n = 0; n < Config::kSumColumns / 8; ++n) add_global(sum + n * 512, dq[n]);
      }
      await_products<0>();
      pin(dk);
      if (speaks) arrive(shared.queries_read(slot));
      queries.advance();
      if (++tile == work.end && ++h % p.group != 0) tile = work.first;
    }
    sync_groups();  // nobody reads dS any more
    if (work.end > work.first) {
      if (speaks) arrive(shared.keys_read(keys.slot()));
      keys.advance();
    }
    char* const panels = static_cast<char*>(__cvta_shared_to_generic(shared.scores(0)));
    // Computed again, so that nothing of it waits in registers while the loop over the queries runs.
    const FlashBackwardWork<Config> same(task.order,
                                         item_of_round(static_cast<int>(kept_apart(static_cast<unsigned>(round)))), p);
    store_keys<T, Config>(task, same, panels, warp_row, dk, p.scale, task.base.dk, p.depth);
    store_keys<T, Config>(task, same, panels, warp_row, dv, p.keep_scale, task.base.dv, p.value_depth);
  }
}

template <class T, int kWidth, AttentionMode kMode>
__global__ void __launch_bounds__(FlashBackwardTile<kWidth, kMode>::kThreads, 1)
    flash_backward_kernel(const __grid_constant__ FlashBackwardTask task) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Config = FlashBackwardTile<kWidth, kMode>;
  extern __shared__ char dynamic[];
  const FlashBackwardShared<Config> shared(dynamic);
  if (threadIdx.x == 0) shared.init();
  __syncthreads();
  const int group = warpgroup_index();
  if (group == 0) {
    shrink_registers<Config::kFetchRegisters>();
    if (threadIdx.x == 0) fetch_backward<Config>(task, shared);
  } else {
    grow_registers<Config::kRegisters>();
    differentiate<T, kWidth, Config>(task, shared, group - 1);
  }
#else
  __trap();  // chosen on Hopper alone
#endif
}

/// dq = scale times the sum that the kernel above left: a block per tile of queries. Floor: one read of f32, one write.
template <class T, class Config>
__global__ void __launch_bounds__(256) flash_finish_kernel(const __grid_constant__ AttentionBackwardTask task) {
  using Panel = SharedTile<64>;
  __shared__ __align__(128) char shared[2 * 64 * kPanelPitch];
  const AttentionProblem& p = task.problem;
  const int tiles = task.padded_queries / Config::kQueries;
  const int head = static_cast<int>(blockIdx.x) / tiles;
  const int tile = static_cast<int>(blockIdx.x) % tiles;
  const int group = static_cast<int>(threadIdx.x) / 128;
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const int first_query = tile * Config::kQueries + (Config::kSplitsQueries ? group * 64 : 0);
  const int first_column = Config::kSplitsQueries ? 0 : group * Config::kSumColumns;
  constexpr int kN = Config::kSumColumns / 8;
  const float* sum = task.dq_sum + static_cast<std::int64_t>(blockIdx.x) * Config::kSumFloats +
                     group * (Config::kSumFloats / 2) + thread * 4;
  float dq[1][kN][4];
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const auto four = load_vector<4>(sum + n * 512);
#pragma unroll
    for (int e = 0; e < 4; ++e) dq[0][n][e] = four.at[e];
  }
  const float scale[1][2] = {{p.scale, p.scale}};
  char* const panel = shared + group * 64 * kPanelPitch;
  const int warp_row = thread / kWarp * 16;
  stage<T, Panel>(panel, warp_row, dq, scale);
  __syncwarp();
  T* const to = const_cast<T*>(head_of<T>(task.dq, head / p.heads, head % p.heads)) +
                static_cast<std::int64_t>(first_query) * task.dq.row + first_column * task.dq.element;
  store_rows<T, Panel, 16>(panel, warp_row, to, task.dq, p.queries - first_query,
                           min(p.depth - first_column, Config::kSumColumns));
}

template <class T, int kWidth>
void run_flash_backward(const AttentionBackwardTask& base, const Stream& stream) {
  const AttentionProblem& p = base.problem;
  const auto run = [&]<AttentionMode kMode>() {
    using Config = FlashBackwardTile<kWidth, kMode>;
    const int tiles = static_cast<int>(ceil_div(p.keys, Config::kKeys));
    const int heads = p.batch * p.key_heads;
    const std::int64_t bytes = std::int64_t{4} * p.queries * (p.depth + p.value_depth);
    const int blocks = std::min(tiles * heads, multiprocessors(stream));
    const auto steps = [&](int queries) {
      return (static_cast<int>(ceil_div(queries, Config::kQueries)) + 1) * p.group;
    };
    const FlashBackwardTask task{.base = base,
                                 .q = map_queries(p, p.q, p.depth, Config::kQueries),
                                 .dout = map_queries(p, base.dout, p.value_depth, Config::kQueries),
                                 .k = map_keys(p, p.k, p.depth, Config::kKeys),
                                 .v = map_keys(p, p.v, p.value_depth, Config::kKeys),
                                 .order = balanced_order(p, tiles, heads, bytes * p.group, blocks, steps(p.queries),
                                                         steps(std::max(1, p.queries - (tiles - 1) * Config::kKeys)))};
    launch("attention", flash_backward_kernel<T, kWidth, kMode>,
           {.grid = dim3(static_cast<unsigned>(blocks)),
            .block = dim3(Config::kThreads),
            .shared_bytes = Config::kSharedBytes},
           stream, task);
    if (base.dq_sum == nullptr) return;
    const int query_tiles = base.padded_queries / Config::kQueries;
    launch("attention", flash_finish_kernel<T, Config>,
           {.grid = dim3(static_cast<unsigned>(query_tiles * p.batch * p.heads)), .block = dim3(256)}, stream, base);
  };
  if (p.mode() == AttentionMode::plain) return run.template operator()<AttentionMode::plain>();
  if (p.mode() == AttentionMode::drops) return run.template operator()<AttentionMode::drops>();
  if (p.mode() == AttentionMode::slopes) return run.template operator()<AttentionMode::slopes>();
  run.template operator()<AttentionMode::general>();
}

}  // namespace trinix::cuda
