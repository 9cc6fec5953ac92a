#pragma once

#include <trinix/backends/cuda/attention/decode/rows.cuh>
#include <trinix/backends/cuda/attention/decode/split.h>

/// @file
/// What the parts of a row's keys have given, and how it becomes the row: with m the largest of the maxima,
/// out = sum_s 2^(max_s - m) sums_s / sum_s 2^(max_s - m) sum_s, in the order of the parts.

namespace trinix::cuda {

/// Maximum of the exponents of two, and sum of the exponentials relative to it.
struct PartNote {
  float max;
  float sum;

  /// What the part counts for beside a maximum of `largest`; 0 where it saw nothing.
  [[nodiscard]] __device__ float weight(float largest) const { return sum == 0 ? 0.0F : fast_exp2(max - largest); }
};

struct DecodeTask {
  AttentionForwardTask forward;
  int row_tiles;    ///< per key head
  int splits;       ///< of the keys; what follows is not used where it is 1
  int columns;      ///< of a part
  float* sums;      ///< (batch, heads, queries, splits, columns): of values, not yet normalised
  PartNote* notes;  ///< (batch, heads, queries, splits)
};

__device__ inline std::int64_t part_of(const DecodeTask& task, int b, const PackedRow& row, int split) {
  const AttentionProblem& p = task.forward.problem;
  return ((static_cast<std::int64_t>(b) * p.heads + row.head) * p.queries + row.query) * task.splits + split;
}

__device__ inline void store_part(const DecodeTask& task, std::int64_t part, int chunk, const float (&values)[8]) {
  auto* const to = reinterpret_cast<float4*>(task.sums + part * task.columns + chunk * 8);
  to[0] = make_float4(values[0], values[1], values[2], values[3]);
  to[1] = make_float4(values[4], values[5], values[6], values[7]);
}

/// Stores columns [kCount piece, kCount (piece + 1)) of a row, times `factor`.
template <class T, int kCount>
__device__ inline void store_decoded(const AttentionForwardTask& task, const Sequence& l, int b, const PackedRow& row,
                                     int piece, const float (&values)[kCount], float factor) {
  T* const to = const_cast<T*>(queries_of<T>(task.out, l, b, row.head)) + row.query * task.out.row +
                piece * kCount * task.out.element;
  Vector<T, kCount> narrow;
#pragma unroll
  for (int e = 0; e < kCount; ++e) narrow.at[e] = narrow_to<T>(values[e] * factor);
  if (task.out.vectors) {
    store_vector(to, narrow);
  } else {
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      if (piece * kCount + e < task.problem.value_depth) to[e * task.out.element] = narrow.at[e];
    }
  }
}

__device__ inline void store_lse(const AttentionForwardTask& task, const Sequence& l, int b, const PackedRow& row,
                                 const PartNote& all) {
  const AttentionProblem& p = task.problem;
  task.lse[b * p.lse_batch + row.head * p.lse_head + l.query_start + row.query] =
      all.sum == 0 ? -INFINITY : all.max * 0.6931471805599453F + logf(all.sum);
}

/// Threads of a block that combines; rows have a warp each, or all four where they have many parts.
inline constexpr int kCombineThreads = 128;
[[nodiscard]] __host__ __device__ inline int combining_warps(int splits) {
  return splits <= 8 ? 1 : kCombineThreads / 32;
}

template <class T>
__global__ void __launch_bounds__(kCombineThreads, 8)
    attention_combine_kernel(const __grid_constant__ DecodeTask task) {
  constexpr int kCount = 4;  // columns of a lane
  constexpr int kNotes = kMostSplits / kWarp;
  constexpr unsigned kAll = 0xffffffffU;
  __shared__ float4 shared[kCombineThreads / kWarp][kWarp];
  const AttentionProblem& p = task.forward.problem;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warps = combining_warps(task.splits);
  const int member = warp % warps;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * (kCombineThreads / kWarp / warps) + warp / warps;
  if (index >= static_cast<std::int64_t>(p.batch) * p.heads * p.queries) return;
  const int query = static_cast<int>(index % p.queries);
  const int head = static_cast<int>(index / p.queries % p.heads);
  const int b = static_cast<int>(index / p.queries / p.heads);
  const Sequence l(p, b);
  if (query >= l.queries) return;
  const PackedRow row(p, l, head / p.group, query * p.group + head % p.group);

  PartNote notes[kNotes];
  float max = -INFINITY;
#pragma unroll
  for (int j = 0; j < kNotes; ++j) {
    const int split = j * kWarp + lane;
    notes[j] = split < task.splits ? task.notes[index * task.splits + split] : PartNote{-INFINITY, 0};
    max = fmaxf(max, notes[j].max);
  }
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) max = fmaxf(max, __shfl_xor_sync(kAll, max, apart));
  float weights[kNotes];
  float total = 0;
#pragma unroll
  for (int j = 0; j < kNotes; ++j) {
    weights[j] = notes[j].weight(max);
    total += weights[j] * notes[j].sum;
  }
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) total += __shfl_xor_sync(kAll, total, apart);
  const float factor = total == 0 ? 0.0F : 1 / total;

  for (int piece = lane; piece < (task.columns + kWarp * kCount - 1) / (kWarp * kCount) * kWarp; piece += kWarp) {
    const bool there = piece * kCount < task.columns;
    const float* const from = task.sums + index * task.splits * task.columns + (there ? piece * kCount : 0);
    float values[kCount] = {};
#pragma unroll
    for (int j = 0; j < kNotes; ++j) {
#pragma unroll 8
      for (int split = j * kWarp + member; split < min(task.splits, (j + 1) * kWarp); split += warps) {
        const float weight = __shfl_sync(kAll, weights[j], split % kWarp);
        // A part that saw nothing has stored nothing.
        const float4 part =
            weight == 0 ? make_float4(0, 0, 0, 0) : *reinterpret_cast<const float4*>(from + split * task.columns);
        values[0] = fmaf(weight, part.x, values[0]);
        values[1] = fmaf(weight, part.y, values[1]);
        values[2] = fmaf(weight, part.z, values[2]);
        values[3] = fmaf(weight, part.w, values[3]);
      }
    }
    if (warps > 1) {
      __syncthreads();
      shared[warp][lane] = make_float4(values[0], values[1], values[2], values[3]);
      __syncthreads();
#pragma unroll
      for (int other = 1; other < kCombineThreads / kWarp; ++other) {
        const float4 part = shared[other][lane];
        values[0] += part.x;
        values[1] += part.y;
        values[2] += part.z;
        values[3] += part.w;
      }
    }
    if (member == 0 && there) store_decoded<T>(task.forward, l, b, row, piece, values, factor);
  }
  if (member == 0 && lane == 0) store_lse(task.forward, l, b, row, {max, total});
}

template <class T>
void combine_parts(const DecodeTask& task, const Stream& stream) {
  const AttentionProblem& p = task.forward.problem;
  const std::int64_t rows = std::int64_t{p.batch} * p.heads * p.queries;
  const int per_block = kCombineThreads / 32 / combining_warps(task.splits);
  launch("attention", attention_combine_kernel<T>,
         {.grid = dim3(static_cast<unsigned>(ceil_div(rows, per_block))), .block = dim3(kCombineThreads)}, stream,
         task);
}

}  // namespace trinix::cuda
