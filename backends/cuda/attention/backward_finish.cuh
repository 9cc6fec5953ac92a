#pragma once

#include <trinix/backends/cuda/attention/keys_tile.cuh>

/// @file
/// The end of the backward by keys: what its blocks added up becomes dq. Floor: one read of f32 sums, one write of dq.

namespace trinix::cuda {

/// dq = scale times the sum that the kernel above left, one block per tile of queries.
template <class T, int kWidth, bool kSmall>
__global__ void __launch_bounds__(KeysTile<kWidth, AttentionMode::general, kSmall>::kThreads)
    attention_finish_kernel(const __grid_constant__ AttentionBackwardTask task) {
  using Config = KeysTile<kWidth, AttentionMode::general, kSmall>;
  using Tile = typename Config::Tile;
  constexpr int kC = Config::kSumN;
  __shared__ __align__(128) char shared[Config::kQueryBytes];
  if (!Config::kHasCode) __trap();  // the other tiles are for this card
  const AttentionProblem& p = task.problem;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int tiles = task.padded_queries / Config::kQueries;
  const int b = static_cast<int>(blockIdx.x) / tiles / p.heads;
  const int h = static_cast<int>(blockIdx.x) / tiles % p.heads;
  const int tile = static_cast<int>(blockIdx.x) % tiles;
  const int first_query = tile * Config::kQueries;
  const Sequence l(p, b);
  if (first_query >= l.queries) return;
  const float* sum = task.dq_sum + (padded_row(task, l, b, h) / Config::kQueries + tile) * Config::kSumFloats +
                     warp * Config::kPartFloats + lane * 4;
#pragma unroll
  for (int columns = 0; columns < Config::kSumParts; ++columns, sum += Config::kWarps * Config::kPartFloats) {
    Vector<float, 4> part[Config::kSumM][kC];
#pragma unroll
    for (int m = 0; m < Config::kSumM; ++m) {
#pragma unroll
      for (int n = 0; n < kC; ++n) part[m][n] = load_vector<4>(sum + (m * kC + n) * 4 * kWarp);
    }
    const int first_chunk = (columns * Config::kColumnWarps + warp / Config::kRowWarps) * kC;
#pragma unroll
    for (int m = 0; m < Config::kSumM; ++m) {
#pragma unroll
      for (int n = 0; n < kC; ++n) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = (warp % Config::kRowWarps * Config::kSumM + m) * 16 + half * 8 + lane / 4;
          *reinterpret_cast<std::uint32_t*>(shared + Tile::offset(row, first_chunk + n) + lane % 4 * 4) =
              pack_pair<T>(part[m][n].at[2 * half] * p.scale, part[m][n].at[2 * half + 1] * p.scale);
        }
      }
    }
  }
  __syncthreads();
  T* to = const_cast<T*>(queries_of<T>(task.dq, l, b, h)) + static_cast<std::int64_t>(first_query) * task.dq.row;
  constexpr int kRows = Config::kQueries / Config::kWarps;
  store_rows<T, Tile, kRows>(shared, warp * kRows, to, task.dq, l.queries - first_query, p.depth);
}

template <class T, int kWidth>
void run_backward_finish(const AttentionBackwardTask& task, bool small, const Stream& stream) {
  const AttentionProblem& p = task.problem;
  const auto run = [&]<bool kSmall>() {
    using Config = KeysTile<kWidth, AttentionMode::general, kSmall>;
    const int tiles = task.padded_queries / Config::kQueries;
    launch("attention", attention_finish_kernel<T, kWidth, kSmall>,
           {.grid = dim3(static_cast<unsigned>(tiles * p.batch * p.heads)), .block = dim3(Config::kThreads)}, stream,
           task);
  };
  if constexpr (attention_has_small(kWidth)) {
    if (small) return run.template operator()<true>();
  }
  run.template operator()<false>();
}

}  // namespace trinix::cuda
