#pragma once

#include <trinix/backends/cuda/device/async_copy.cuh>
#include <trinix/backends/cuda/device/dependent_launch.cuh>
#include <trinix/backends/cuda/norm/rows.cuh>

/// @file
/// The backward of rows of up to kLongestHeldRow elements, and the sums over rows.
///
/// Floor: 3 tensors of traffic, 4 with the residual's gradient (5 with its dropout). Blocks stay for the whole call,
/// one or two per multiprocessor, and walk over rows. The rows to come are copied to shared memory meanwhile
/// (cp.async, every thread its own elements, so that no barrier is needed), several stages ahead: that keeps 64 KB and
/// more in flight however few threads there are, and leaves the registers to the sums for dweight and dbias. Those
/// leave once, as one partial row per block: 132 rows of f32, which norm_gradients_kernel adds up in a fixed order. Of a
/// tensor of 64 MB the last row of each block, the partial rows and the second launch are a noticeable part: they move
/// in whole accesses, and each kernel starts in the places that the one in front of it leaves.

namespace trinix::cuda {

/// 16 elements per thread leave registers for the weights beside both sums, and several rows side by side hide each
/// other's barriers. An access that no thread lacks is one more in flight: hence the shapes between powers of two.
template <bool kCentred, class F>
void with_backward_shape(std::int64_t columns, F f) {
  if (columns <= 256) return f(ShapeTag<32, 8, 512>());
  if (columns <= 512) return f(ShapeTag<32, 16, 512>());
  if (columns <= 768) {
    if constexpr (kCentred) return f(ShapeTag<96, 8, 384>());
    return f(ShapeTag<32, 24, 512>());
  }
  if (columns <= 1024) return f(ShapeTag<64, 16, 512>());
  if (columns <= 1536) return f(ShapeTag<192, 8, 384>());
  if (columns <= 2048) return f(ShapeTag<128, 16, 512>());
  if (columns <= 3072) return f(ShapeTag<192, 16, 384>());
  if (columns <= 4096) return f(ShapeTag<256, 16, 512>());
  if (columns <= 5120) return f(ShapeTag<320, 16, 640>());
  if (columns <= 8192) return f(ShapeTag<512, 16, 512>());
  if (columns <= 12288) return f(ShapeTag<512, 24, 512>());
  f(ShapeTag<512, 32, 512>());
}

/// Blocks of a multiprocessor: as many threads as there are registers for, without spills.
template <class S>
inline constexpr int kBackwardBlocks = std::max(1, (S::kThreads > 32 && S::kElements <= 8 ? 768 : 512) / S::kBlock);

/// Whether the registers have room for the weights beside the sums.
template <bool kCentred, class S, class T>
inline constexpr bool kHoldsWeights = S::kElements* static_cast<int>(sizeof(T)) <= (!kCentred          ? 64
                                                                                    : S::kBlock <= 512 ? 32
                                                                                                       : 16);

/// Bytes of shared memory that the weights take where the registers have none.
template <bool kCentred, class S, class T>
inline constexpr int kWeightBytes = kHoldsWeights<kCentred, S, T>
                                        ? 0
                                        : S::kThreads* S::kElements* static_cast<int>(sizeof(T));

/// Bytes that a multiprocessor keeps in flight, and the most stages of rows to hold them.
inline constexpr std::int64_t kBytesAhead = 65536;
inline constexpr int kMostStages = 6;

/// Bytes of one tensor's part of a stage.
template <class S>
inline constexpr int kStageBytes = S::kBlock* S::kVectors * 16;

/// Waits until the oldest of `stages` groups has arrived.
__device__ inline void wait_for_stage(int stages) {
  static_assert(kMostStages == 6);
  switch (stages) {
    case 1:
      return wait_async<0>();
    case 2:
      return wait_async<1>();
    case 3:
      return wait_async<2>();
    case 4:
      return wait_async<3>();
    case 5:
      return wait_async<4>();
    default:
      return wait_async<5>();
  }
}

/// A thread's elements of the rows under way: [stage][tensor: s, dy, dsum][vector][thread].
template <class S, class T>
struct StagedRows {
  static constexpr int kWidth = S::kWidth;
  using Access = Vector<T, kWidth>;

  Access* memory;
  int tensors;  ///< 2, or 3 with dsum
  int thread;

  [[nodiscard]] __device__ Access& at(int stage, int tensor, int v) const {
    return memory[((stage * tensors + tensor) * S::kVectors + v) * S::kBlock + thread];
  }
  /// Starts the copies of a row; none if there is no such row. Closes the group in any case.
  __device__ void fetch(const NormBackwardData<T>& p, int stage, std::int64_t row) const {
    if (row < p.rows) {
#pragma unroll
      for (int v = 0; v < S::kVectors; ++v) {
        if (S::column(v) >= p.columns) continue;
        const std::int64_t from = row * p.columns + S::column(v);
        copy_async(&at(stage, 0, v), reinterpret_cast<const Access*>(p.s + from));
        copy_async(&at(stage, 1, v), reinterpret_cast<const Access*>(p.dy + from));
        if (tensors == 3) copy_async(&at(stage, 2, v), reinterpret_cast<const Access*>(p.dsum + from));
      }
    }
    commit_async();
  }
};

/// The two sums that a row's gradient needs; RMS has the second only.
template <bool kCentred, class C>
struct GradientSums {
  C g;
  C g_hat;
};
template <class C>
struct GradientSums<false, C> {
  C g_hat;
};
struct MergeGradientSums {
  template <bool kCentred, class C>
  __device__ GradientSums<kCentred, C> operator()(GradientSums<kCentred, C> a,
                                                  const GradientSums<kCentred, C>& b) const {
    if constexpr (kCentred) a.g += b.g;
    a.g_hat += b.g_hat;
    return a;
  }
};

/// Stores the sums of a block's groups as its row of `partial`; nothing if that is null. `all` is the block's shared
/// memory, whose last use may be under way.
template <class S, class C>
__device__ void store_partial_row(const C (&sums)[S::kVectors][S::kWidth], C* partial, std::int64_t columns, C* all) {
  if (partial == nullptr) return;  // the same for all threads
  constexpr int kEach = kPerAccess<C>;
  constexpr int kColumns = S::kThreads * S::kElements;
  partial += blockIdx.x * columns;
  if constexpr (S::kGroups > 1) __syncthreads();
#pragma unroll
  for (int v = 0; v < S::kVectors; ++v) {
    const int c = S::column(v);
    if (c >= columns) continue;
#pragma unroll
    for (int k = 0; k < S::kWidth; k += kEach) {
      Vector<C, kEach> some;
#pragma unroll
      for (int i = 0; i < kEach; ++i) some.at[i] = sums[v][k + i];
      store_vector((S::kGroups > 1 ? all + threadIdx.y * kColumns : partial) + c + k, some);
    }
  }
  if constexpr (S::kGroups > 1) {
    __syncthreads();
    for (int c = (threadIdx.y * S::kThreads + threadIdx.x) * kEach; c < columns; c += S::kBlock * kEach) {
      auto sum = load_vector<kEach>(all + c);
#pragma unroll
      for (int g = 1; g < S::kGroups; ++g) {
        const auto next = load_vector<kEach>(all + g * kColumns + c);
#pragma unroll
        for (int i = 0; i < kEach; ++i) sum.at[i] += next.at[i];
      }
      store_vector(partial + c, sum);
    }
  }
}

/// This thread's weights, as they are stored: in registers where there are any to spare, else in shared memory. Read
/// from L1 for each row, they would hold up the row: with them a backward of 8192 columns takes 1.12 times as long.
template <class S, class T, bool kHeld>
class RowWeights {
 public:
  using Access = Vector<T, S::kWidth>;

  /// Ends with a barrier where the weights are in `shared`.
  __device__ RowWeights(const NormBackwardData<T>& p, Access* shared) : shared_(shared + threadIdx.x) {
#pragma unroll
    for (int v = 0; v < S::kVectors; ++v) {
      Access w;
#pragma unroll
      for (int k = 0; k < S::kWidth; ++k) w.at[k] = narrow_to<T>(1.0F);
      if (p.weight != nullptr && S::column(v) < p.columns) w = load_vector<S::kWidth>(p.weight + S::column(v));
      if constexpr (kHeld) {
        held_[v] = w;
      } else if (threadIdx.y == 0) {
        shared_[v * S::kThreads] = w;
      }
    }
    if constexpr (!kHeld) __syncthreads();
  }
  [[nodiscard]] __device__ Vector<compute_t<T>, S::kWidth> of(int v) {
    if constexpr (kHeld) {
      keep_narrow(held_[v]);
      return widen_vector(held_[v]);
    } else {
      return widen_vector(shared_[v * S::kThreads]);
    }
  }

 private:
  Access* shared_;
  Access held_[kHeld ? S::kVectors : 1];
};

/// With kCentred sums for dbias are collected too. With d = s - mean (s for RMS), hat = d rstd and g = dy weight:
/// ds = rstd (g - mean(g) - hat mean(g hat)), and the sums over rows are those of dy hat and dy.
template <bool kCentred, class S, class T>
__global__ void __launch_bounds__(S::kBlock, kBackwardBlocks<S>)
    norm_backward_kernel(NormBackwardData<T> p, int stages) {
  using C = compute_t<T>;
  constexpr int kWidth = S::kWidth;
  constexpr int kVectors = S::kVectors;
  using Sums = GradientSums<kCentred, C>;
  extern __shared__ float4 staged_memory[];
  __shared__ WarpStates<S, Sums> shared[2];
  const StagedRows<S, T> staged{reinterpret_cast<Vector<T, kWidth>*>(staged_memory), p.dsum != nullptr ? 3 : 2,
                                static_cast<int>(threadIdx.y * S::kThreads + threadIdx.x)};
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * S::kGroups;
  std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * S::kGroups + threadIdx.y;
  C dweight[kVectors][kWidth] = {};
  C dbias[kVectors][kWidth] = {};
  wait_for_kernels_in_front();
  for (int i = 0; i < stages; ++i) staged.fetch(p, i, row + i * step);
  const auto statistic = [&](const C* of, std::int64_t at) { return at < p.rows ? of[at] : C(0); };
  C mean = kCentred ? statistic(p.mean, row) : C(0);
  C rstd = statistic(p.rstd, row);
  RowWeights<S, T, kHoldsWeights<kCentred, S, T>> weights(p, &staged.at(stages, 0, 0) - staged.thread);
  int turn = 0;
  for (int stage = 0; row < p.rows; row += step, stage = stage + 1 < stages ? stage + 1 : 0) {
    // Asked for a whole row before they are used.
    const C next_mean = kCentred ? statistic(p.mean, row + step) : C(0);
    const C next_rstd = statistic(p.rstd, row + step);
    wait_for_stage(stages);
    Sums sums{};
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (S::column(v) >= p.columns) continue;
      const auto s = widen_vector(staged.at(stage, 0, v));
      const auto dy = widen_vector(staged.at(stage, 1, v));
      const auto w = weights.of(v);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const C d = kCentred ? s.at[k] - mean : s.at[k];
        const C product = dy.at[k] * d;
        if constexpr (kCentred) {
          sums.g += dy.at[k] * w.at[k];
          dbias[v][k] += dy.at[k];
        }
        sums.g_hat += product * w.at[k];  // without rstd yet
        dweight[v][k] += product * rstd;
      }
    }
    if (p.dx != nullptr || p.dbranch != nullptr) {
      sums = combine_row<S>(sums, MergeGradientSums(), shared[turn]);
      turn ^= 1;
      const C per_column = C(1) / static_cast<C>(p.columns);
      C shift = 0;
      if constexpr (kCentred) shift = rstd * (sums.g * per_column);
      const C slope = rstd * (rstd * (rstd * (sums.g_hat * per_column)));
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        const int c = S::column(v);
        if (c >= p.columns) continue;
        const auto s = widen_vector(staged.at(stage, 0, v));
        const auto dy = widen_vector(staged.at(stage, 1, v));
        const auto w = weights.of(v);
        Vector<C, kWidth> ds;
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const C d = kCentred ? s.at[k] - mean : s.at[k];
          ds.at[k] = dy.at[k] * w.at[k] * rstd - (d * slope + shift);
        }
        if (p.dsum != nullptr) {
          const auto dsum = widen_vector(staged.at(stage, 2, v));
#pragma unroll
          for (int k = 0; k < kWidth; ++k) ds.at[k] += dsum.at[k];
        }
        const std::int64_t at = row * p.columns + c;
        if (p.dx != nullptr) store_vector(p.dx + at, narrow_vector<T>(ds));
        if (p.dbranch != nullptr) {
          p.mask.apply(ds, p.mask.offset(), at);  // asked for here, where few registers are in use
          store_vector(p.dbranch + at, narrow_vector<T>(ds));
        }
      }
    }
    staged.fetch(p, stage, row + stages * step);
    mean = next_mean;
    rstd = next_rstd;
  }
  let_next_kernel_begin();
  auto* all = reinterpret_cast<C*>(staged_memory);
  store_partial_row<S>(dweight, p.partial_dweight, p.columns, all);
  if constexpr (kCentred) store_partial_row<S>(dbias, p.partial_dbias, p.columns, all);
}

/// The gradient of one parameter from its partial rows.
template <class T>
struct NormGradient {
  const compute_t<T>* partial;  ///< null when it is not wanted
  T* gradient;
  std::int64_t stride;
  bool accumulate;
};
template <class T>
struct NormGradients {
  NormGradient<T> weight;
  NormGradient<T> bias;
  std::int64_t partial_rows;
  std::int64_t columns;
};

/// Warps of a block, and the rows that each of them has under way at once: the partial rows of 144 multiprocessors.
inline constexpr int kPartialWarps = 16;
inline constexpr int kPartialRows = 9;

/// blockIdx.y = 0: of the weight; 1: of the bias. A warp takes 32 * kWidth columns; every sum has the same order
/// always.
template <int kWidth, class T>
__global__ void __launch_bounds__(kWarp* kPartialWarps) norm_gradients_kernel(NormGradients<T> p) {
  using C = compute_t<T>;
  constexpr int kColumns = kWarp * kWidth;
  __shared__ Vector<C, kWidth> sums[kPartialWarps][kWarp];
  let_next_kernel_begin();
  wait_for_kernels_in_front();
  const NormGradient<T> of = blockIdx.y == 0 ? p.weight : p.bias;
  if (of.partial == nullptr) return;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kColumns;
  const std::int64_t column = first + threadIdx.x * kWidth;
  Vector<C, kWidth> sum = {};
  if (column < p.columns) {
    for (std::int64_t begin = threadIdx.y; begin < p.partial_rows; begin += kPartialWarps * kPartialRows) {
      Vector<C, kWidth> rows[kPartialRows] = {};
#pragma unroll
      for (int i = 0; i < kPartialRows; ++i) {
        const std::int64_t r = begin + i * kPartialWarps;
        if (r < p.partial_rows) rows[i] = load_vector<kWidth>(of.partial + r * p.columns + column);
      }
#pragma unroll
      for (int i = 0; i < kPartialRows; ++i) {
#pragma unroll
        for (int k = 0; k < kWidth; ++k) sum.at[k] += rows[i].at[k];
      }
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  const int own = static_cast<int>(threadIdx.y * kWarp + threadIdx.x);
  if (own >= kColumns || first + own >= p.columns) return;
  C total = 0;
#pragma unroll
  for (int i = 0; i < kPartialWarps; ++i) total += sums[i][own / kWidth].at[own % kWidth];
  T& to = of.gradient[(first + own) * of.stride];
  to = narrow_to<T>(of.accumulate ? widen(to) + total : total);
}

}  // namespace trinix::cuda
