#pragma once

#include <cmath>

#include <trinix/backends/cuda/device/async_copy.cuh>
#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/core/dtype.h>

/// @file
/// Cross-entropy of rows of logits, with the gradient in the same kernel. A group of threads owns a row: it reads the
/// row once, keeping the largest logit and the sum of exponentials as it goes (online softmax, Milakov and Gimelshein,
/// arXiv 1805.02867), and then, knowing their logarithm, computes the gradient. For that a long row waits in shared
/// memory, where every thread leaves what it alone reads again. Floor: one read of the logits and one write of the
/// gradient.

namespace trinix::cuda {

/// 1 / n for the count of targets. For f64 by Newton's method from the f32 value: a division there is a function call,
/// around which registers are spilled.
template <class C>
__device__ C inverse(C n) {
  C r = 1.0F / static_cast<float>(n);
  if constexpr (sizeof(C) == 8) {
    r = r * (2 - n * r);
    r = r * (2 - n * r);
  }
  return r;
}

template <class T>
struct CrossEntropyRows {
  using C = compute_t<T>;

  const T* logits;
  const void* targets;
  bool wide_targets;  ///< i64 instead of i32
  T* dlogits;         ///< may be `logits`
  C* losses;          ///< one per row
  C* lse;
  const C* count;  ///< divides the gradients unless null
  const C* dloss;  ///< of the backward alone: one, or one per row
  std::int64_t dloss_step;
  std::int64_t rows;
  std::int64_t classes;
  std::int64_t ignore_index;
  C smoothing;
  C spread;  ///< smoothing / classes

  /// -1 for a target that does not count, or that is out of range, which was noted elsewhere.
  __device__ std::int64_t target(std::int64_t row) const {
    const std::int64_t t =
        wide_targets ? static_cast<const std::int64_t*>(targets)[row] : static_cast<const std::int32_t*>(targets)[row];
    return t == ignore_index || t < 0 || t >= classes ? -1 : t;
  }
  __device__ C gradient_scale(C upstream) const {
    return count == nullptr || *count <= C(1) ? upstream : upstream * inverse(*count);
  }
};

/// e^(x - shift). For 16 bits by the hardware's 2^v, whose relative error of 2^-22 is nothing to them; the difference
/// is taken first, so that huge logits cancel exactly.
template <class T, class C>
__device__ C exponential(C x, C shift) {
  if constexpr (sizeof(T) == 2) {
    constexpr float kLog2E = 1.442695041F;
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"((x - shift) * kLog2E));
    return result;
  } else {
    return exp(x - shift);
  }
}

__device__ inline float greater(float a, float b) { return fmaxf(a, b); }
__device__ inline double greater(double a, double b) { return fmax(a, b); }

/// 16-bit values are converted two at a time, which takes half the instructions.
template <class T, int kCount, class C>
__device__ Vector<T, kCount> narrow_all(const C (&v)[kCount]) {
  Vector<T, kCount> r;
  if constexpr (kCount % 2 == 0 && std::is_same_v<T, bfloat16>) {
#pragma unroll
    for (int k = 0; k < kCount; k += 2) {
      reinterpret_cast<__nv_bfloat162*>(&r)[k / 2] = __floats2bfloat162_rn(v[k], v[k + 1]);
    }
  } else if constexpr (kCount % 2 == 0 && std::is_same_v<T, float16>) {
#pragma unroll
    for (int k = 0; k < kCount; k += 2) {
      reinterpret_cast<__half2*>(&r)[k / 2] = __floats2half2_rn(v[k], v[k + 1]);
    }
  } else {
#pragma unroll
    for (int k = 0; k < kCount; ++k) r.at[k] = narrow_to<T>(v[k]);
  }
  return r;
}

template <class T, int kCount, class C>
__device__ void widen_all(const Vector<T, kCount>& v, C (&to)[kCount]) {
  if constexpr (kCount % 2 == 0 && std::is_same_v<T, bfloat16>) {
#pragma unroll
    for (int k = 0; k < kCount; k += 2) {
      const std::uint32_t pair = reinterpret_cast<const std::uint32_t*>(&v)[k / 2];
      to[k] = __uint_as_float(pair << 16);
      to[k + 1] = __uint_as_float(pair & 0xffff0000U);
    }
  } else {
#pragma unroll
    for (int k = 0; k < kCount; ++k) to[k] = widen(v.at[k]);
  }
}

/// How a row is cut into 16-byte vectors. A row of odd length starts anywhere; the few elements before the first whole
/// vector and behind the last one go to one thread each.
template <class T, int kWidth>
struct RowPieces {
  std::int64_t edge;  ///< column of this thread's single element, or -1
  std::int64_t body;  ///< first column of the vectors
  int vectors;

  __device__ RowPieces(const T* row, std::int64_t columns, int thread) {
    constexpr int kBytes = kWidth * static_cast<int>(sizeof(T));
    const auto beyond = static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % kBytes / sizeof(T));
    const std::int64_t head = beyond == 0 ? 0 : kWidth - beyond;
    body = head < columns ? head : columns;
    vectors = static_cast<int>((columns - body) / kWidth);
    const std::int64_t tail = body + static_cast<std::int64_t>(vectors) * kWidth;
    edge = thread < body ? thread : tail + (thread - body);
    if (edge >= columns) edge = -1;
  }
};

template <class T>
struct OnlineSum {
  using C = compute_t<T>;
  C max = -static_cast<C>(INFINITY);
  C sum = 0;    ///< of exp(x - max)
  C plain = 0;  ///< of x, for label smoothing

  template <int kWidth>
  __device__ void add(const C (&v)[kWidth], bool smooth) {
    C larger = max;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) larger = greater(larger, v[k]);
    if (larger > max) {
      sum *= exponential<T>(max, larger);
      max = larger;
    }
    const C shift = shift_of(max);
    C partial = 0;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) partial += exponential<T>(v[k], shift);
    sum += partial;
    if (!smooth) return;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) plain += v[k];
  }

  /// As long as all is -inf, exp(-inf - 0) = 0 is what is wanted, and not exp(-inf + inf).
  __device__ static C shift_of(C max) { return max == -static_cast<C>(INFINITY) ? C(0) : max; }
};

template <class T>
struct GradientRule {
  using C = compute_t<T>;
  C lse;
  C scale;
  C offset;  ///< -smoothing / classes * scale
  C peak;    ///< (1 - smoothing) * scale, taken off at the target
  std::int64_t target;

  template <int kWidth>
  __device__ Vector<T, kWidth> operator()(const C (&x)[kWidth], std::int64_t column) const {
    C g[kWidth];
#pragma unroll
    for (int k = 0; k < kWidth; ++k) g[k] = fma(exponential<T>(x[k], lse), scale, offset);
    const std::int64_t at = target - column;
    if (at >= 0 && at < kWidth) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) g[k] = k == at ? g[k] - peak : g[k];
    }
    return narrow_all<T, kWidth>(g);
  }
};

/// The gradient of a row whose body is read from `body`: its place in the logits, or a copy of it.
template <int kThreads, int kWidth, class T, class C>
__device__ void write_gradient(const CrossEntropyRows<T>& p, const Vector<T, kWidth>* body, const T* x,
                               const RowPieces<T, kWidth>& pieces, std::int64_t row, std::int64_t target, C lse,
                               C scale) {
  T* const dx = p.dlogits + row * p.classes;
  auto* const to = reinterpret_cast<Vector<T, kWidth>*>(dx + pieces.body);
  const GradientRule<T> gradient{lse, scale, -p.spread * scale, (1 - p.smoothing) * scale, target};
  C v[kWidth];
  if (target < 0) {
    const Vector<T, kWidth> zeros{};
    for (int i = threadIdx.x; i < pieces.vectors; i += kThreads) to[i] = zeros;
    if (pieces.edge >= 0) dx[pieces.edge] = T(0.0F);
    return;
  }
#pragma unroll(sizeof(C) == 8 ? 1 : 2)
  for (int i = threadIdx.x; i < pieces.vectors; i += kThreads) {
    widen_all<T, kWidth>(body[i], v);
    to[i] = gradient(v, pieces.body + static_cast<std::int64_t>(i) * kWidth);
  }
  if (pieces.edge < 0) return;
  const C edge[1] = {widen(x[pieces.edge])};
  dx[pieces.edge] = gradient(edge, pieces.edge).at[0];
}

/// Combines over the kThreads of a group: a block, or one warp of it.
template <int kThreads, class C, class Merge>
__device__ C group_combine(C value, Merge merge, C* shared) {
  if constexpr (kThreads == kWarp) return warp_combine(value, merge);
  return block_combine<kThreads>(value, merge, shared);
}

/// A warp per row comes in blocks of four rows.
inline constexpr int kWarpRows = 4;
template <int kThreads>
inline constexpr int kBlockThreads = kThreads == kWarp ? kWarp* kWarpRows : kThreads;
/// Two long rows share a multiprocessor: while one is summed, the other is written. f64 needs the registers.
template <int kThreads, class T>
inline constexpr int kLeastBlocks = (sizeof(T) == 8 ? 512 : 1024) / kBlockThreads<kThreads>;

/// Vectors of a thread on their way to shared memory.
inline constexpr int kInFlight = 8;

/// kThreads per row, blocks of `blockDim.y` rows. kStaged: dynamic shared memory holds the row, and blockDim.y is 1.
template <int kThreads, int kWidth, bool kStaged, class T>
__global__ void __launch_bounds__(kBlockThreads<kThreads>, kLeastBlocks<kThreads, T>)
    cross_entropy_kernel(CrossEntropyRows<T> p) {
  using C = compute_t<T>;
  using V = Vector<T, kWidth>;
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ C shared[kThreads / kWarp];
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= p.rows) return;  // a whole warp: groups larger than that have one row per block
  const int thread = threadIdx.x;
  const C scale = p.gradient_scale(C(1));
  const T* const x = p.logits + row * p.classes;
  const std::int64_t target = p.target(row);
  const RowPieces<T, kWidth> pieces(x, p.classes, thread);
  const V* const from = reinterpret_cast<const V*>(x + pieces.body);
  V* const stage = reinterpret_cast<V*>(memory);
  const bool smooth = p.smoothing != C(0);
  // Read before anything is written.
  const C logit = target < 0 ? C(0) : widen(x[target]);
  C edge[1] = {pieces.edge < 0 ? -static_cast<C>(INFINITY) : widen(x[pieces.edge])};

  OnlineSum<T> state;
  C v[kWidth];
  if constexpr (kStaged) {
    const auto fetch = [&](int i) {
      if (i < pieces.vectors) copy_async(stage + i, from + i);
      commit_async();
    };
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) fetch(thread + u * kThreads);
    for (int i = thread; i < pieces.vectors; i += kThreads) {
      wait_async<kInFlight - 1>();
      widen_all<T, kWidth>(stage[i], v);
      state.add(v, smooth);
      fetch(i + kInFlight * kThreads);
    }
  } else {
#pragma unroll 4
    for (int i = thread; i < pieces.vectors; i += kThreads) {
      widen_all<T, kWidth>(from[i], v);
      state.add(v, smooth);
    }
  }
  if (pieces.edge >= 0) state.add(edge, smooth);

  const C max = group_combine<kThreads>(state.max, Larger(), shared);
  const C own = state.sum == C(0) ? C(0) : state.sum * exponential<T>(state.max, max);
  const C lse = max + log(group_combine<kThreads>(own, Plus(), shared));
  const C plain = smooth ? group_combine<kThreads>(state.plain, Plus(), shared) : C(0);
  if (thread == 0) {
    C loss = target < 0 ? C(0) : (1 - p.smoothing) * (lse - logit);
    if (smooth && target >= 0) loss += p.smoothing * lse - p.spread * plain;
    p.lse[row] = lse;
    p.losses[row] = loss;
  }
  if (p.dlogits == nullptr) return;
  if constexpr (kThreads == kWarp) __syncwarp();  // the target's logit has been read; blocks have had their barriers
  write_gradient<kThreads, kWidth>(p, kStaged ? stage : from, x, pieces, row, target, lse, scale);
}

/// The gradient from logits and lse. Floor: one read, one write.
template <int kThreads, int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads<kThreads>, 1) cross_entropy_backward_kernel(CrossEntropyRows<T> p) {
  using C = compute_t<T>;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= p.rows) return;
  const C scale = p.gradient_scale(p.dloss[row * p.dloss_step]);
  const T* const x = p.logits + row * p.classes;
  const RowPieces<T, kWidth> pieces(x, p.classes, threadIdx.x);
  write_gradient<kThreads, kWidth>(p, reinterpret_cast<const Vector<T, kWidth>*>(x + pieces.body), x, pieces, row,
                                   p.target(row), p.lse[row], scale);
}

/// dlogits *= dloss, which is 1 as a rule: then nothing is read or written, and few blocks see to it.
template <int kThreads, int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads<kThreads>) cross_entropy_scale_kernel(CrossEntropyRows<T> p) {
  using C = compute_t<T>;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.y;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < p.rows; row += step) {
    const C scale = p.dloss[row * p.dloss_step];
    if (scale == C(1)) {
      if (p.dloss_step == 0) return;
      continue;
    }
    T* const dx = p.dlogits + row * p.classes;
    const RowPieces<T, kWidth> pieces(dx, p.classes, threadIdx.x);
    auto* const body = reinterpret_cast<Vector<T, kWidth>*>(dx + pieces.body);
    for (int i = threadIdx.x; i < pieces.vectors; i += kThreads) {
      C v[kWidth];
      widen_all<T, kWidth>(body[i], v);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) v[k] *= scale;
      body[i] = narrow_all<T, kWidth>(v);
    }
    if (pieces.edge >= 0) dx[pieces.edge] = narrow_to<T>(widen(dx[pieces.edge]) * scale);
  }
}

}  // namespace trinix::cuda
