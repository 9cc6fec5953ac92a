#pragma once

#include <trinix/backends/cuda/device/random.cuh>
#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/core/dtype.h>
#include <trinix/core/ops/dropout.h>

/// @file
/// What all kernels of normalisation share: arguments, dropout of the branch, and how threads are laid over rows.

namespace trinix::cuda {

/// Dropout of a branch as the card sees it; not `on` without one.
template <class C>
struct BranchMask {
  RandomState random;
  std::uint32_t threshold;
  C scale;
  bool on;

  BranchMask(const RandomState& state, double p)
      : random(state), threshold(dropout_threshold(p)), scale(static_cast<C>(dropout_scale(p))), on(p > 0) {}

  /// Where the numbers begin: asked for once per thread.
  [[nodiscard]] __device__ std::uint64_t offset() const { return on ? random_offset(random) : 0; }

  /// Masks elements first .. first + kCount - 1 of the tensor; first is a multiple of kCount.
  template <int kCount>
  __device__ void apply(Vector<C, kCount>& v, std::uint64_t offset, std::int64_t first) const {
    constexpr int kBlocks = kCount < 4 ? 1 : kCount / 4;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const PhiloxBlock block = philox(random.seed, offset + static_cast<std::uint64_t>(first) / 4 + b);
      const int lane = kCount < 4 ? static_cast<int>(first % 4) : 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // an index known to the compiler: the block stays in registers
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
          if (k - 4 * b + lane != i || k < 4 * b || k >= 4 * b + 4) continue;
          v.at[k] = dropout_keeps(block.x[i], threshold) ? v.at[k] * scale : C(0);
        }
      }
    }
  }
};

/// Arguments of the forward kernels; null pointers are not given.
template <class T>
struct NormForwardData {
  const T* x;
  const T* branch;
  const T* weight;
  const T* bias;
  T* sum;
  T* y;
  compute_t<T>* mean;
  compute_t<T>* rstd;
  std::int64_t rows;
  std::int64_t columns;  ///< at most kLongestHeldRow for the kernels that hold rows
  compute_t<T> eps;
  BranchMask<compute_t<T>> mask;
};

/// Arguments of the backward kernels.
template <class T>
struct NormBackwardData {
  const T* s;
  const T* weight;
  const T* bias;
  const compute_t<T>* mean;
  const compute_t<T>* rstd;
  const T* dsum;
  const T* dy;
  T* dx;
  T* dbranch;
  compute_t<T>* partial_dweight;  ///< one row per block (of those that share columns)
  compute_t<T>* partial_dbias;
  std::int64_t rows;
  std::int64_t columns;
  BranchMask<compute_t<T>> mask;
};

template <int kCount, class T>
__device__ Vector<compute_t<T>, kCount> widen_vector(const Vector<T, kCount>& v) {
  Vector<compute_t<T>, kCount> wide;
#pragma unroll
  for (int k = 0; k < kCount; ++k) wide.at[k] = widen(v.at[k]);
  return wide;
}

template <class T, int kCount>
__device__ Vector<T, kCount> narrow_vector(const Vector<compute_t<T>, kCount>& v) {
  Vector<T, kCount> narrow;
#pragma unroll
  for (int k = 0; k < kCount; ++k) narrow.at[k] = narrow_to<T>(v.at[k]);
  return narrow;
}

/// Makes the compiler forget that it has widened these 16-bit values before: else it keeps both, which fills the
/// registers; widening again costs one instruction.
template <class T, int kCount>
__device__ void keep_narrow(Vector<T, kCount>& held) {
  if constexpr (sizeof(T) == 2 && kCount > 1) {
    auto& words = reinterpret_cast<std::uint32_t(&)[kCount / 2]>(held);
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) asm volatile("" : "+r"(words[i]));
  }
}
template <class V, int kRows, int kVectors>
__device__ void keep_narrow(V (&held)[kRows][kVectors]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) keep_narrow(held[r][v]);
  }
}

/// kCount parameters as compute type, or `missing` where there are none.
template <int kCount, class T>
__device__ Vector<compute_t<T>, kCount> load_parameter(const T* p, std::int64_t c, compute_t<T> missing) {
  if (p != nullptr) return widen_vector(load_vector<kCount>(p + c));
  Vector<compute_t<T>, kCount> v;
#pragma unroll
  for (int k = 0; k < kCount; ++k) v.at[k] = missing;
  return v;
}

/// kThreads threads take a row of at most kThreads * kElements elements, as kVectors accesses of 16 bytes each. Warps
/// need no barrier, so a block takes kGroups rows side by side.
template <class T, int kThreadsOfRow, int kElementsOfThread, int kThreadsOfBlock>
struct RowShape {
  static constexpr int kThreads = kThreadsOfRow;
  static constexpr int kElements = kElementsOfThread;
  static constexpr int kWidth = kPerAccess<T>;
  static constexpr int kVectors = kElements / kWidth;
  static constexpr int kGroups = kThreadsOfBlock / kThreads;
  static constexpr int kBlock = kThreadsOfBlock;

  /// Elements from one vector of a thread to its next.
  static constexpr int kStep = kThreads * kWidth;

  /// Column of vector v of this thread.
  [[nodiscard]] __device__ static int column(int v) { return static_cast<int>(threadIdx.x) * kWidth + v * kStep; }
};

/// The part of RowShape's template arguments that a call chooses.
template <int kThreadsOfRow, int kElementsOfThread, int kThreadsOfBlock>
struct ShapeTag {
  template <class T>
  using For = RowShape<T, kThreadsOfRow, kElementsOfThread, kThreadsOfBlock>;
};

/// One state for each warp of each of a block's rows.
template <class S, class State>
using WarpStates = State[S::kGroups][S::kThreads / kWarp];

/// All threads of a row receive the combination of their states. Rows of several warps meet once, at a barrier of their
/// own: `shared` may be used again only behind the next meeting, so callers take turns between two.
template <class S, class State, class Merge>
__device__ State combine_row(State state, Merge merge, WarpStates<S, State>& shared) {
  constexpr int kWarps = S::kThreads / kWarp;
  state = warp_combine(state, merge);
  if constexpr (kWarps > 1) {
    State* const of_row = shared[threadIdx.y];
    if (threadIdx.x % kWarp == 0) of_row[threadIdx.x / kWarp] = state;
    if constexpr (S::kGroups == 1) {
      __syncthreads();
    } else {  // barrier 0 is that of the block
      static_assert(S::kGroups < 16);
      asm volatile("bar.sync %0, %1;" ::"r"(1 + static_cast<int>(threadIdx.y)), "n"(S::kThreads) : "memory");
    }
    state = of_row[0];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) state = merge(state, of_row[w]);
  }
  return state;
}

/// Longest row of the kernels that hold rows in registers or shared memory.
inline constexpr std::int64_t kLongestHeldRow = 16384;

}  // namespace trinix::cuda
