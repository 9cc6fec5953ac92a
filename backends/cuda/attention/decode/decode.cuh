#pragma once

#include <trinix/backends/cuda/attention/decode/combine.cuh>
#include <trinix/backends/cuda/attention/decode/decode.h>
#include <trinix/backends/cuda/attention/decode/rows.cuh>
#include <trinix/backends/cuda/attention/decode/split.h>
#include <trinix/backends/cuda/attention/forward.cuh>
#include <trinix/backends/cuda/scratch.h>

/// @file
/// Attention of a few queries: per block a tile of rows of one key head, and a part of its keys, of which a ring of
/// tiles is under way. Floor: keys and values are read once from memory, whatever the number of query heads.

namespace trinix::cuda {

/// Tile sizes. Either the four warps share the 16 rows and each has a quarter of a tile's keys, or each has 16 rows of
/// its own and all keys.
template <int kWidth, bool kManyRows>
struct DecodeTile {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kRowWarps = kManyRows ? kWarps : 1;
  static constexpr int kKeyWarps = kWarps / kRowWarps;
  static constexpr int kRows = 16 * kRowWarps;
  static constexpr int kKeys = kWidth == 64 ? 128 : 64;
  static constexpr int kWarpKeys = kKeys / kKeyWarps;
  static constexpr int kPart = kWidth == 256 ? 16 : kWarpKeys < 32 ? kWarpKeys : 32;  // whose scores are in registers
  static constexpr int kStages = kWidth == 256 ? 2 : 3;
  using Tile = SharedTile<kWidth>;
  static constexpr int kKeyBytes = kKeys * Tile::kPitch;
  static constexpr int kStageBytes = 2 * kKeyBytes;
  static constexpr int kRingBytes = kStages * kStageBytes;
  // Behind the ring, maxima and sums of every warp's rows. The sums of values take the place of the ring at the end.
  static constexpr int kNoteBytes = kWarps * 16 * 8;
  // Queries of 256 columns have no room in registers: every lane keeps its own in shared memory.
  static constexpr bool kQueriesInRegisters = kWidth <= 128;
  static constexpr int kQueryBytes = kQueriesInRegisters ? 0 : kWarps * 16 * Tile::kPitch;
  static constexpr int kSharedBytes = kRingBytes + kNoteBytes + kQueryBytes;
  static constexpr int kSumPitch = kWidth + 8;  // so that lanes store to different banks
  static_assert(kSharedBytes == decode_shared_bytes(kWidth));
  static_assert(kWarps * 16 * kSumPitch * 4 <= kRingBytes);
};

/// Where a block stands. Blocks that lie side by side read key heads that do, of the same keys.
struct DecodePlace {
  int key_head, row_tile, split, b;

  __device__ DecodePlace(const DecodeTask& task, unsigned block) {
    const AttentionProblem& p = task.forward.problem;
    int rest = static_cast<int>(block);
    key_head = rest % p.key_heads;
    rest /= p.key_heads;
    row_tile = rest % task.row_tiles;
    rest /= task.row_tiles;
    split = rest % task.splits;
    b = rest / task.splits;
  }
};

/// The keys [first, end) that a block walks over, and those that its rows see in common, within which none is hidden
/// but by a mask.
struct DecodeSpan {
  int first, end;
  int common_first, common_end;
};
template <class Config>
__device__ inline DecodeSpan decode_span(const DecodeTask& task, const Sequence& l, const DecodePlace& at) {
  const int group = task.forward.problem.group;
  const int first_row = at.row_tile * Config::kRows;
  const int first_query = first_row / group;
  const int last_query = (min(first_row + Config::kRows, l.queries * group) - 1) / group;
  const Span seen = keys_seen(l, first_query, last_query);
  const Span common{last_query + l.first_offset, min(l.keys, first_query + l.last_offset + 1)};
  const int tiles = max(0, (seen.end - seen.first + Config::kKeys - 1) / Config::kKeys);
  const auto part = [&](int n) {
    return seen.first + static_cast<int>(static_cast<std::int64_t>(tiles) * n / task.splits) * Config::kKeys;
  };
  return {part(at.split), min(seen.end, part(at.split + 1)), common.first, common.end};
}

/// The rows of a warp as the left operand of the scores' product: 16 columns per step.
template <class T, class Config>
class DecodeQueries {
 public:
  __device__ DecodeQueries(const AttentionProblem& p, const Sequence& l, int b, const PackedRows& rows, char* shared)
      : shared_(reinterpret_cast<uint4*>(shared + Config::kRingBytes + Config::kNoteBytes) +
                threadIdx.x / kWarp * (kSteps * kWarp) + threadIdx.x % kWarp) {
    const int pair = static_cast<int>(threadIdx.x) % 4 * 2;
    const T* from[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      from[half] = queries_of<T>(p.q, l, b, rows[half].head) + rows[half].query * p.q.row + pair;
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t a[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int chunk = 2 * step + i / 2;
        const bool there = rows[i % 2].there && chunk < p.chunks;
        a[i] = there ? *reinterpret_cast<const std::uint32_t*>(from[i % 2] + chunk * 8) : 0;
      }
      if constexpr (Config::kQueriesInRegisters) {
#pragma unroll
        for (int i = 0; i < 4; ++i) registers_[step][i] = a[i];
      } else {
        shared_[step * kWarp] = make_uint4(a[0], a[1], a[2], a[3]);
      }
    }
  }

  __device__ void load(std::uint32_t (&a)[4], int step) const {
    if constexpr (Config::kQueriesInRegisters) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = registers_[step][i];
    } else {
      const uint4 all = shared_[step * kWarp];
      a[0] = all.x;
      a[1] = all.y;
      a[2] = all.z;
      a[3] = all.w;
    }
  }

 private:
  static constexpr int kSteps = Config::Tile::kChunks / 2;
  std::uint32_t registers_[Config::kQueriesInRegisters ? kSteps : 1][4];
  uint4* shared_;
};

/// Walks over the keys: sums not yet normalised, maxima and sums of every warp.
template <class T, int kWidth, class Config, int kO>
__device__ __forceinline__ void decode_keys(const AttentionProblem& p, const Sequence& l, const DecodePlace& at,
                                            const DecodeSpan& span, char* shared, bool careful, float (&o)[1][kO][4],
                                            RowState<1>& state) {
  using Tile = typename Config::Tile;
  constexpr int kN = Config::kPart / 8;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::uint32_t ring = shared_address(shared);
  const T* const keys = keys_of<T>(p.k, l, at.b, at.key_head);
  const T* const values = keys_of<T>(p.v, l, at.b, at.key_head);
  const int tiles = (span.end - span.first + Config::kKeys - 1) / Config::kKeys;
  // Rows behind the last key of the span become zeros: no memory behind the cache's valid part is read.
  const auto copy_keys = [&](int tile) {
    if (tile < tiles) {
      const std::uint32_t slot = ring + static_cast<std::uint32_t>(tile % Config::kStages * Config::kStageBytes);
      const std::int64_t key = span.first + tile * Config::kKeys;
      const int count = span.end - static_cast<int>(key);
      copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(slot, keys + key * p.k.row, p.k.row, count, p.chunks);
      copy_tile_async<Config::kKeys, kWidth, Config::kThreads>(slot + Config::kKeyBytes, values + key * p.v.row,
                                                               p.v.row, count, p.value_chunks);
    }
    commit_copies();
  };

  state.max[0][0] = state.max[0][1] = -INFINITY;
  state.sum[0][0] = state.sum[0][1] = 0;
#pragma unroll
  for (int n = 0; n < kO; ++n) o[0][n][0] = o[0][n][1] = o[0][n][2] = o[0][n][3] = 0;
#pragma unroll
  for (int tile = 0; tile < Config::kStages - 1; ++tile) copy_keys(tile);

  const int row = at.row_tile * Config::kRows + warp / Config::kKeyWarps * 16;
  const PackedRows rows(p, l, at.b, at.key_head, row + lane / 4);
  const bool idle = row >= l.queries * p.group;
  const int warp_key = warp % Config::kKeyWarps * Config::kWarpKeys;
  const DecodeQueries<T, Config> queries(p, l, at.b, rows, shared);

#pragma unroll 1
  for (int tile = 0; tile < tiles; ++tile) {
    await_copies<Config::kStages - 2>();
    __syncthreads();  // this tile is there, and nobody reads the one before any more
    copy_keys(tile + Config::kStages - 1);
    const int slot = tile % Config::kStages * Config::kStageBytes;
    if (careful) {
      make_finite<T, Tile, Config::kKeys, Config::kThreads>(shared + slot + Config::kKeyBytes, shared + slot);
      __syncthreads();
    }
    if (idle) continue;
#pragma unroll 1
    for (int part = warp_key; part < warp_key + Config::kWarpKeys; part += Config::kPart) {
      const int first_key = span.first + tile * Config::kKeys + part;
      if (first_key >= span.end) break;
      const std::uint32_t part_slot = ring + static_cast<std::uint32_t>(slot + part * Tile::kPitch);
      const std::uint32_t k_lane = part_slot + lane_by_column<Tile>(lane);
      const std::uint32_t v_lane = part_slot + Config::kKeyBytes + lane_by_row<Tile>(lane);
      float s[1][kN][4] = {};
#pragma unroll
      for (int step = 0; step < kWidth / 16; ++step) {
        std::uint32_t q[4];
        queries.load(q, step);
#pragma unroll
        for (int n = 0; n < kN; n += 2) {
          std::uint32_t bk[4];
          load_matrices(bk, Tile::step(k_lane, n * 8, step * 2));
          mma<T>(s[0][n], q, bk[0], bk[1]);
          mma<T>(s[0][n + 1], q, bk[2], bk[3]);
        }
      }
      const int key = first_key + lane % 4 * 2;
      rows.bias(s, p, l, key);
      if (first_key < span.common_first || first_key + Config::kPart > span.common_end) rows.hide(s, l, key);
      online_softmax(s, state, o, 1.0F);
      std::uint32_t a[kN / 2][4];
      pack_scores<T>(a, s);
#pragma unroll
      for (int step = 0; step < kN / 2; ++step) {
#pragma unroll
        for (int n = 0; n < kO; n += 2) {
          std::uint32_t bv[4];
          load_matrices_transposed(bv, Tile::step(v_lane, step * 16, n));
          mma<T>(o[0][n], a[step], bv[0], bv[1]);
          mma<T>(o[0][n + 1], a[step], bv[2], bv[3]);
        }
      }
    }
  }
  await_copies<0>();
}

/// Adds up what the warps that share rows have, and stores it: the output where the keys are not split, else a part.
template <class T, int kWidth, class Config, int kO>
__device__ inline void finish_decode(const DecodeTask& task, const Sequence& l, const DecodePlace& at, char* shared,
                                     const float (&o)[1][kO][4], const RowState<1>& state) {
  const AttentionProblem& p = task.forward.problem;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  auto* const sums = reinterpret_cast<float*>(shared);
  auto* const notes = reinterpret_cast<PartNote*>(shared + Config::kRingBytes);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp * 16 + half * 8 + lane / 4;
    float sum = state.sum[0][half];
    sum += __shfl_xor_sync(0xffffffffU, sum, 1);
    sum += __shfl_xor_sync(0xffffffffU, sum, 2);
    if (lane % 4 == 0) notes[row] = {state.max[0][half], sum};
#pragma unroll
    for (int n = 0; n < kO; ++n) {
      *reinterpret_cast<float2*>(sums + row * Config::kSumPitch + n * 8 + lane % 4 * 2) =
          make_float2(o[0][n][2 * half], o[0][n][2 * half + 1]);
    }
  }
  __syncthreads();
  constexpr int kChunks = kWidth / 8;
  for (int i = static_cast<int>(threadIdx.x); i < Config::kRows * kChunks; i += Config::kThreads) {
    const int chunk = i % kChunks;
    const PackedRow row(p, l, at.key_head, at.row_tile * Config::kRows + i / kChunks);
    if (!row.there || chunk >= p.value_chunks) continue;
    const int first = i / kChunks;  // the others follow at 16 rows each
    float max = notes[first].max;
#pragma unroll
    for (int w = 1; w < Config::kKeyWarps; ++w) max = fmaxf(max, notes[first + w * 16].max);
    float total = 0;
    float values[8] = {};
#pragma unroll
    for (int w = 0; w < Config::kKeyWarps; ++w) {
      const PartNote note = notes[first + w * 16];
      const float weight = note.weight(max);
      total += weight * note.sum;
      const float* const from = sums + (first + w * 16) * Config::kSumPitch + chunk * 8;
#pragma unroll
      for (int e = 0; e < 8; ++e) values[e] += weight * from[e];
    }
    if (task.splits == 1) {
      const float factor = total == 0 ? 0.0F : 1 / total;
      store_decoded<T>(task.forward, l, at.b, row, chunk, values, factor);
      if (chunk == 0) store_lse(task.forward, l, at.b, row, {max, total});
    } else {
      store_part(task, part_of(task, at.b, row, at.split), chunk, values);
      if (chunk == 0) task.notes[part_of(task, at.b, row, at.split)] = {max, total};
    }
  }
}

template <class T, int kWidth, bool kManyRows>
__global__ void __launch_bounds__(DecodeTile<kWidth, kManyRows>::kThreads, kWidth == 256 ? 1 : 2)
    attention_decode_kernel(const __grid_constant__ DecodeTask task) {
  using Config = DecodeTile<kWidth, kManyRows>;
  extern __shared__ __align__(128) char shared[];
  const AttentionProblem& p = task.forward.problem;
  const DecodePlace at(task, blockIdx.x);
  const Sequence l(p, at.b);
  if (at.row_tile * Config::kRows >= l.queries * p.group) return;
  const DecodeSpan span = decode_span<Config>(task, l, at);
  float o[1][kWidth / 8][4];
  RowState<1> state;
  // Once more, with care, where something that is not finite has turned up: it may come from hidden values.
  bool careful = false;
#pragma unroll 1
  while (true) {
    decode_keys<T, kWidth, Config>(p, l, at, span, shared, careful, o, state);
    const bool again = !careful && any_not_finite(o);
    if (__syncthreads_or(again ? 1 : 0) == 0) break;
    careful = true;
  }
  finish_decode<T, kWidth, Config>(task, l, at, shared, o, state);
}

template <class T, int kWidth, bool kManyRows>
void run_decode_rows(const AttentionForwardTask& forward, const Stream& stream) {
  using Config = DecodeTile<kWidth, kManyRows>;
  const AttentionProblem& p = forward.problem;
  const int row_tiles = static_cast<int>(ceil_div(std::int64_t{p.queries} * p.group, Config::kRows));
  const std::int64_t units = std::int64_t{p.batch} * p.key_heads * row_tiles;
  const std::int64_t seen = std::min<std::int64_t>(p.keys, std::int64_t{p.reach_left} + p.reach_right + p.queries);
  const int tiles = static_cast<int>(ceil_div(seen, Config::kKeys));
  const int blocks = std::clamp(shared_limit(stream.device) / (Config::kSharedBytes + 1024), 1, kWidth == 256 ? 1 : 2);
  const int splits = count_splits(units, tiles, multiprocessors(stream), blocks);
  const std::int64_t parts = splits == 1 ? 0 : std::int64_t{p.batch} * p.heads * p.queries * splits;
  const int columns = p.value_chunks * 8;
  const Scratch scratch(static_cast<std::size_t>(parts) * (columns * sizeof(float) + sizeof(PartNote)), stream);
  const DecodeTask task{.forward = forward,
                        .row_tiles = row_tiles,
                        .splits = splits,
                        .columns = columns,
                        .sums = scratch.as<float>(),
                        .notes = reinterpret_cast<PartNote*>(scratch.as<float>() + parts * columns)};
  launch("attention", attention_decode_kernel<T, kWidth, kManyRows>,
         {.grid = dim3(static_cast<unsigned>(units * splits)),
          .block = dim3(Config::kThreads),
          .shared_bytes = Config::kSharedBytes},
         stream, task);
  if (splits > 1) combine_parts<T>(task, stream);
}

template <class T, int kWidth>
void run_decode(const AttentionForwardTask& task, const Stream& stream) {
  const AttentionProblem& p = task.problem;
  if (std::int64_t{p.queries} * p.group <= DecodeTile<kWidth, false>::kRows) {
    run_decode_rows<T, kWidth, false>(task, stream);
  } else {
    run_decode_rows<T, kWidth, true>(task, stream);
  }
}

}  // namespace trinix::cuda
