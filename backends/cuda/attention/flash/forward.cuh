#pragma once

#include <trinix/backends/cuda/attention/flash/flash.h>
#include <trinix/backends/cuda/attention/flash/forward_tile.cuh>
#include <trinix/backends/cuda/attention/flash/order.cuh>
#include <trinix/backends/cuda/attention/flash/panels.cuh>
#include <trinix/backends/cuda/attention/flash/plain_row.cuh>
#include <trinix/backends/cuda/attention/flash/problem.h>
#include <trinix/backends/cuda/attention/flash/softmax.cuh>
#include <trinix/backends/cuda/attention/scores.cuh>
#include <trinix/backends/cuda/device/tensor_copy.cuh>
#include <trinix/backends/cuda/device/wgmma.cuh>

/// @file
/// The forward of attention on Hopper. Floor: 4 Sq Sk D operations per head at 780 TFLOP/s, beside Sq Sk exponentials
/// at 16 per cycle and multiprocessor: the same time at 64 columns, half of it at 128.
///
/// A block stays and takes tiles of queries. Its first warpgroup, one thread of it, fetches queries, and keys and
/// values in two rings. Each other warpgroup has 64 of the tile's queries and goes its own way through the keys, from
/// the last (where the diagonal is) to the first. While the tensor cores compute P V of one tile of keys, it computes
/// the exponentials of the next:
///
///   S = Q K[n]                                        | products
///   m, P = exp(S - m)                                 | exponentials
///   for each tile of keys before n:
///     S' = Q K[n-1], O += P V[n]                      | products
///     m', P' = exp(S' - m'), while O is under way     | both
///     O *= exp(m - m') where a maximum has outgrown

namespace trinix::cuda {

struct FlashForwardTask {
  AttentionForwardTask base;
  CUtensorMap q, k, v;
  BlockOrder order;
};

/// What one thread does for the others: it fetches.
template <class Config, AttentionMode kMode>
__device__ inline void fetch_forward(const FlashForwardTask& task, const FlashForwardShared<Config>& shared) {
  const AttentionProblem& p = task.base.problem;
  prefetch(task.q);
  prefetch(task.k);
  prefetch(task.v);
  RingPlace<Config::kStages> keys;
  RingPlace<Config::kStages> values;
  const bool together = p.query_starts != nullptr;
  for (int round = 0, item; (item = item_of_round(round)) < task.order.items(); ++round) {
    const BlockOrder::Place place = task.order.place(static_cast<unsigned>(item));
    const auto& l = lengths_of<kMode>(p, place.head / p.heads);
    const FlashForwardWork<Config> work(place, task.order.tiles, p, l);
    // One fill per round, be it an empty one.
    const RingPlace<Config::kQueryStages> queries(static_cast<unsigned>(round));
    if (work.end <= work.first) {
      await(shared.queries_read(queries.slot()), queries.parity() ^ 1);
      arrive(shared.queries_there(queries.slot()));
      continue;
    }
    const int batch = together ? 0 : work.b;
    const int key_head = work.h / p.group;
    const auto fetch_keys = [&](int tile) {
      await(shared.keys_read(keys.slot()), keys.parity() ^ 1);
      arrive_expecting(shared.keys_there(keys.slot()), Config::kKeyBytes);
#pragma unroll
      for (int panel = 0; panel < Config::kPanels; ++panel) {
        copy_box(shared.keys(keys.slot()) + panel * Config::kKeyPanel, task.k, shared.keys_there(keys.slot()),
                 panel * 64, l.key_start + tile * Config::kKeys, key_head, batch, kKeepInCache);
      }
      keys.advance();
    };
    const auto fetch_values = [&](int tile) {
      await(shared.values_read(values.slot()), values.parity() ^ 1);
      arrive_expecting(shared.values_there(values.slot()), Config::kValueBytes);
#pragma unroll
      for (int panel = 0; panel < Config::kValuePanels; ++panel) {
        copy_box(shared.values(values.slot()) + panel * Config::kKeyPanel, task.v, shared.values_there(values.slot()),
                 panel * 64, l.key_start + tile * Config::kKeys, key_head, batch, kKeepInCache);
      }
      values.advance();
    };
    fetch_keys(work.end - 1);
    await(shared.queries_read(queries.slot()), queries.parity() ^ 1);
    arrive_expecting(shared.queries_there(queries.slot()), Config::kQueryBytes);
#pragma unroll
    for (int panel = 0; panel < Config::kPanels; ++panel) {
      copy_box(shared.queries(queries.slot()) + panel * Config::kQueryPanel, task.q,
               shared.queries_there(queries.slot()), panel * 64, l.query_start + work.first_query, work.h, batch,
               kPassThroughCache);
    }
    for (int tile = work.end - 2; tile >= work.first; --tile) {
      fetch_keys(tile);
      fetch_values(tile + 1);
    }
    fetch_values(work.first);
  }
}

/// A warpgroup's part of a tile: normalises and stores; rows that are not finite once more, plainly.
template <class T, class Config, AttentionMode kMode, int kParts, int kO>
__device__ inline void store_forward(const FlashForwardTask& task, int item, char* staging, int group,
                                     float (&o)[kParts][kO][4], const FlashRowState& state) {
  const AttentionForwardTask& base = task.base;
  const AttentionProblem& p = base.problem;
  // Computed again, so that nothing of it waits in registers while the loop over the keys runs.
  const BlockOrder::Place place = task.order.place(static_cast<unsigned>(item));
  const auto& l = lengths_of<kMode>(p, place.head / p.heads);
  const FlashForwardWork<Config> work(place, task.order.tiles, p, l);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp_row = group * 64 + static_cast<int>(threadIdx.x) % 128 / kWarp * 16;
  float* const lse = base.lse + work.b * p.lse_batch + work.h * p.lse_head + l.query_start + work.first_query;
  const float unit = Config::kBiased ? 0.6931471805599453F : p.scale;  // of state.max
  float factors[2];
  bool again = false;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = state.sum[half];
    sum += __shfl_xor_sync(0xffffffffU, sum, 1);
    sum += __shfl_xor_sync(0xffffffffU, sum, 2);
    factors[half] = sum == 0 ? 0.0F : p.keep_scale / sum;
    const int row = warp_row + half * 8 + lane / 4;
    if (lane % 4 == 0 && row < work.rows) {
      lse[row] = sum == 0 ? -INFINITY : state.max[half] * unit + logf(sum);
    }
    // A sum that is NaN has seen it in a score of its own: all of the row is NaN, rightly.
    float check = 0;
#pragma unroll
    for (int n = 0; n < kParts * kO; ++n) {
      const auto& block = o[n / kO][n % kO];
      check = fmaf(block[2 * half], 0.0F, fmaf(block[2 * half + 1], 0.0F, check));
    }
    again = again || (check != check && sum == sum);
  }
  T* const out = const_cast<T*>(queries_of<T>(base.out, l, work.b, work.h)) +
                 static_cast<std::int64_t>(work.first_query) * base.out.row;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const int column = part * Config::kPartColumns;
    store_by_panels<T, Config::kQueryPanel>(staging + column / 64 * Config::kQueryPanel, warp_row, o[part], factors,
                                            out + column * base.out.element, base.out, work.rows,
                                            p.value_depth - column);
  }
  if (!__any_sync(0xffffffffU, again)) return;
  __syncwarp();
  const Sequence sequence(p, work.b);
#pragma unroll 1
  for (int row = warp_row; row < min(warp_row + 16, work.rows); ++row) {
    const PlainRow<T> plain(base, sequence, work.b, work.h, work.first_query + row);
    plain.template store<Config::kWide ? 8 : 4>(lse + row);
  }
}

/// What a warpgroup that multiplies does.
template <class T, int kWidth, class Config, AttentionMode kMode>
__device__ inline void attend(const FlashForwardTask& task, const FlashForwardShared<Config>& shared, int group) {
  constexpr bool kGeneral = kMode == AttentionMode::general;
  constexpr int kN = Config::kKeys / 8;
  constexpr int kO = Config::kPartColumns / 8;
  const AttentionProblem& p = task.base.problem;
  // One thread releases for its warpgroup: the products' completion says that all four warps have come so far; where
  // there is no product, sync_group() does.
  const bool speaks = threadIdx.x % 128 == 0;
  const auto sync_group = [&] { sync_named<128>(1 + group); };
  RingPlace<Config::kStages> keys;
  // Values are as many fills behind as stands at each place.
  const auto await_values = [&](unsigned behind) {
    await(shared.values_there(keys.slot(behind)), keys.parity(behind));
  };
  const auto release_values = [&](unsigned behind) {
    if (speaks) arrive(shared.values_read(keys.slot(behind)));
  };
  const auto release_keys = [&] {
    if (speaks) arrive(shared.keys_read(keys.slot()));
    keys.advance();
  };

#pragma unroll 1
  for (int round = 0, item; (item = item_of_round(round)) < task.order.items(); ++round) {
    const BlockOrder::Place place = task.order.place(static_cast<unsigned>(item));
    const auto& l = lengths_of<kMode>(p, place.head / p.heads);
    const FlashForwardWork<Config> work(place, task.order.tiles, p, l);
    float o[Config::kParts][kO][4];
    FlashRowState state;
#pragma unroll
    for (int n = 0; n < Config::kParts * kO; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) o[n / kO][n % kO][e] = 0;
    }
    const auto pin_output = [&] {
#pragma unroll
      for (int part = 0; part < Config::kParts; ++part) pin(o[part]);
    };

    // Of the tile's keys, those that this warpgroup sees.
    const int group_query = work.first_query + group * 64;
    const Span seen = keys_seen(l, group_query, min(group_query + 63, l.queries - 1));
    const bool any = work.end > work.first && group_query < l.queries && seen.end > seen.first;
    const int first = any ? seen.first / Config::kKeys : work.first;
    const int end = any ? (seen.end + Config::kKeys - 1) / Config::kKeys : work.first;
    // Nothing is read of these. One thread waits for them and hands them on; the warps meet at the next sync_group(),
    // so that none, however late, waits for a fill that is long gone, and none takes an earlier fill for its own.
    const auto pass_tiles = [&](int from, int to) {
      for (int tile = from; tile < to; ++tile) {
        if (speaks) await(shared.keys_there(keys.slot()), keys.parity());
        if (speaks) await_values(0);
        release_values(0);
        release_keys();
      }
      __syncwarp();
    };
    const float slope2 = Config::kBiased ? slope_of(p, work.b, work.h) : 0.0F;
    const bool drops = kMode == AttentionMode::drops || (kGeneral && p.drops);

    const auto queries = [&] { return RingPlace<Config::kQueryStages>(static_cast<unsigned>(round)); };
    float s[1][kN][4];
    std::uint32_t packed[kN / 2][4];
    const auto start_scores = [&] {
      const std::uint32_t q = shared.queries(queries().slot()) + group * 64 * kPanelPitch;
      const std::uint32_t k = shared.keys(keys.slot());
#pragma unroll
      for (int step = 0; step < kWidth / 16; ++step) {
        multiply<T, Lies::by_rows, Lies::by_rows>(
            s[0], rows_operand(q + step / 4 * Config::kQueryPanel + step % 4 * 32),
            rows_operand(k + step / 4 * Config::kKeyPanel + step % 4 * 32), step > 0);
      }
      commit_products();
    };
    const auto start_output = [&] {
      const std::uint32_t v = shared.values(keys.slot(1));
#pragma unroll
      for (int step = 0; step < kN / 2; ++step) {
#pragma unroll
        for (int part = 0; part < Config::kParts; ++part) {
          const std::uint32_t columns = v + part * (Config::kPartColumns / 64) * Config::kKeyPanel;
          multiply<T, Lies::by_columns>(o[part], packed[step],
                                        columns_operand(columns + step * 16 * kPanelPitch, Config::kKeyPanel), true);
        }
      }
      commit_products();
    };
    // Where registers are dear, computed again.
    const auto own_thread = [] {
      return static_cast<int>(Config::kGroups == 3 || Config::kWide || kGeneral ? kept_apart(threadIdx.x)
                                                                                : threadIdx.x) %
             128;
    };
    // What does not need the scores is computed while they are under way.
    std::uint32_t kept[1][(kN + 7) / 8];
    MaskPairs<kGeneral ? kN : 1> mask;
    const bool early = kGeneral && MaskPairs<1>::fits(p.mask);
    const auto before_scores = [&](int tile) {
      const int thread = own_thread();
      if constexpr (kGeneral) {
        const int query = group_query + thread / kWarp * 16 + thread % kWarp / 4;
        if (early) mask.load(p.mask, l, work.b, work.h, query, tile * Config::kKeys + thread % 4 * 2);
      }
      if (drops) {
        draw_kept<1, kN>(kept, p, work.b, work.h, group_query + thread / kWarp * 16, tile * Config::kKeys,
                         thread % kWarp);
      }
    };
    const auto exponentials = [&](int tile) {
      const int first_key = tile * Config::kKeys;
      const int thread = own_thread();
      const int query = group_query + thread / kWarp * 16 + thread % kWarp / 4;
      const int key = first_key + thread % 4 * 2;
      if constexpr (kGeneral) {
        if (early) {
          scale_scores<false>(s, p, l, slope2, query, key);
          mask.add(s, p.mask);
        } else {
          bias_scores<false>(s, p, l, slope2, work.b, work.h, query, key);
        }
      }
      if constexpr (Config::kSlopes) add_slope<false>(s, p, l, slope2, query, key);
      if (needs_mask(l, group_query, 64, first_key, Config::kKeys)) mask_scores(s, l, query, key);
      flash_softmax(s, state, Config::kBiased ? 1.0F : p.scale_log2);
      if (drops) drop_scores(s, kept);
    };

    await(shared.queries_there(queries().slot()), queries().parity());
    pass_tiles(end, work.end);
    sync_group();
    if (end > first) {
      await(shared.keys_there(keys.slot()), keys.parity());
      begin_products();
      start_scores();
      before_scores(end - 1);
      await_products<0>();
      pin(s[0]);
      release_keys();
      exponentials(end - 1);
      pack_scores<T>(packed, s);
#pragma unroll 1
      for (int tile = end - 2; tile >= first; --tile) {
        await(shared.keys_there(keys.slot()), keys.parity());
        pin(s[0]);
        pin(packed);
        pin_output();
        begin_products();
        start_scores();
        await_values(1);
        begin_products();
        start_output();
        before_scores(tile);
        await_products<1>();
        pin(s[0]);
        release_keys();
        exponentials(tile);
        await_products<0>();
        pin_output();
        pin(packed);
        release_values(2);
        if (state.outgrown) {
#pragma unroll
          for (int n = 0; n < Config::kParts * kO; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) o[n / kO][n % kO][e] *= state.factor[e / 2];
          }
        }
        pack_scores<T>(packed, s);
      }
    }
    if (speaks && !Config::kWide) arrive(shared.queries_read(queries().slot()));
    if (end > first) {
      await_values(1);
      pin(packed);
      pin_output();
      begin_products();
      start_output();
      await_products<0>();
      pin_output();
      release_values(1);
    }
    pass_tiles(work.first, first);
    store_forward<T, Config, kMode>(task, item_of_round(static_cast<int>(kept_apart(static_cast<unsigned>(round)))),
                                    shared.out(), group, o, state);
    if constexpr (Config::kWide) {
      fence_shared_for_async();
      sync_group();
      if (speaks) arrive(shared.queries_read(queries().slot()));
    }
  }
}

template <class T, int kWidth, int kValueWidth, AttentionMode kMode>
__global__ void __launch_bounds__(FlashForwardTile<kWidth, kValueWidth, kMode>::kThreads, 1)
    flash_forward_kernel(const __grid_constant__ FlashForwardTask task) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Config = FlashForwardTile<kWidth, kValueWidth, kMode>;
  extern __shared__ char dynamic[];
  const FlashForwardShared<Config> shared(dynamic);
  if (threadIdx.x == 0) shared.init();
  __syncthreads();
  // Uniform where registers are dearest; elsewhere ptxas does better without.
  const int group = Config::kWide ? warpgroup_index() : static_cast<int>(threadIdx.x) / 128;
  if (group == 0) {
    shrink_registers<Config::kFetchRegisters>();
    if (threadIdx.x == 0) fetch_forward<Config, kMode>(task, shared);
  } else {
    grow_registers<Config::kRegisters>();
    attend<T, kWidth, Config, kMode>(task, shared, group - 1);
  }
#else
  __trap();  // chosen on Hopper alone
#endif
}

template <class T, int kWidth, int kValueWidth>
void run_flash_forward(const AttentionForwardTask& base, const Stream& stream) {
  const AttentionProblem& p = base.problem;
  const auto run = [&]<AttentionMode kMode>() {
    using Config = FlashForwardTile<kWidth, kValueWidth, kMode>;
    const int tiles = static_cast<int>(ceil_div(p.queries, Config::kQueries));
    const int heads = p.batch * p.heads;
    const std::int64_t bytes = std::int64_t{2} * p.keys * (p.depth + p.value_depth);
    const int blocks = std::min(tiles * heads, multiprocessors(stream));
    const auto steps = [](int keys) { return static_cast<int>(ceil_div(keys, Config::kKeys)) + 1; };
    const FlashForwardTask task{.base = base,
                                .q = map_queries(p, p.q, p.depth, Config::kQueries),
                                .k = map_keys(p, p.k, p.depth, Config::kKeys),
                                .v = map_keys(p, p.v, p.value_depth, Config::kKeys),
                                .order = balanced_order(p, tiles, heads, bytes / p.group, blocks, steps(p.keys),
                                                        steps(std::max(1, p.keys - (tiles - 1) * Config::kQueries)))};
    launch("attention", flash_forward_kernel<T, kWidth, kValueWidth, kMode>,
           {.grid = dim3(static_cast<unsigned>(blocks)),
            .block = dim3(Config::kThreads),
            .shared_bytes = Config::kSharedBytes},
           stream, task);
  };
  if (p.mode() == AttentionMode::plain) return run.template operator()<AttentionMode::plain>();
  if constexpr (kValueWidth <= 128) {  // at 256 columns no registers are left for drawing beside the products
    if (p.mode() == AttentionMode::drops) return run.template operator()<AttentionMode::drops>();
  }
  if (p.mode() == AttentionMode::slopes) return run.template operator()<AttentionMode::slopes>();
  run.template operator()<AttentionMode::general>();
}

}  // namespace trinix::cuda
