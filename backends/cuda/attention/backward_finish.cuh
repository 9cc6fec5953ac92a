#pragma once

#include <trinix/backends/cuda/attention/keys_tile.cuh>

/// @file
/// The end of the backward by keys: what its blocks added up becomes dq. Floor: one read of f32 sums, one write of dq.

namespace trinix::cuda {

/// dq = scale times the sum that the kernel above left, one block per tile of queries.
template <class T, int kWidth>
__global__ void __launch_bounds__(KeysTile<kWidth, false>::kThreads)
    attention_finish_kernel(const __grid_constant__ AttentionBackwardTask task) {
  using Config = KeysTile<kWidth, false>;
  using Tile = typename Config::Tile;
  constexpr int kC = Config::kSumN;
  __shared__ __align__(128) char shared[Config::kQueryBytes];
  const AttentionProblem& p = task.problem;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int tiles = task.padded_queries / Config::kQueries;
  const int head = static_cast<int>(blockIdx.x) / tiles;
  const int first_query = static_cast<int>(blockIdx.x) % tiles * Config::kQueries;
  const float* sum = task.dq_sum + static_cast<std::int64_t>(blockIdx.x) * Config::kSumFloats +
                     warp * (Config::kSumFloats / Config::kWarps) + lane * 4;
  Vector<float, 4> part[Config::kSumM][kC];
#pragma unroll
  for (int m = 0; m < Config::kSumM; ++m) {
#pragma unroll
    for (int n = 0; n < kC; ++n) part[m][n] = load_vector<4>(sum + (m * kC + n) * 4 * kWarp);
  }
#pragma unroll
  for (int m = 0; m < Config::kSumM; ++m) {
#pragma unroll
    for (int n = 0; n < kC; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = (warp % Config::kRowWarps * Config::kSumM + m) * 16 + half * 8 + lane / 4;
        *reinterpret_cast<std::uint32_t*>(shared + Tile::offset(row, warp / Config::kRowWarps * kC + n) +
                                          lane % 4 * 4) =
            pack_pair<T>(part[m][n].at[2 * half] * p.scale, part[m][n].at[2 * half + 1] * p.scale);
      }
    }
  }
  __syncthreads();
  T* to = const_cast<T*>(head_of<T>(task.dq, head / p.heads, head % p.heads)) +
          static_cast<std::int64_t>(first_query) * task.dq.row;
  constexpr int kRows = Config::kQueries / Config::kWarps;
  store_rows<T, Tile, kRows>(shared, warp * kRows, to, task.dq, p.queries - first_query, p.depth);
}

template <class T, int kWidth>
void run_backward_finish(const AttentionBackwardTask& task, const Stream& stream) {
  const AttentionProblem& p = task.problem;
  const int tiles = task.padded_queries / KeysTile<kWidth, false>::kQueries;
  launch("attention", attention_finish_kernel<T, kWidth>,
         {.grid = dim3(static_cast<unsigned>(tiles * p.batch * p.heads)),
          .block = dim3(KeysTile<kWidth, false>::kThreads)},
         stream, task);
}

}  // namespace trinix::cuda
