#pragma once

#include <trinix/backends/activation_visit.h>
#include <trinix/backends/cuda/device/math.cuh>
#include <trinix/backends/cuda/norm/backward.cuh>

/// @file
/// Rows of any length and alignment, f64, and normalisation with an activation: nothing is held but sums, and a row is
/// read again from the caches. Forward: one block per row, 2 tensors of traffic to memory and one or two more reads of
/// L1 and L2. Backward in two kernels, the sums of each row and then its gradients by columns: 5 tensors.

namespace trinix::cuda {

inline constexpr int kAnyThreads = 256;

/// No activation.
struct Plain {};

/// z = activation(z), or dz = dy * activation'(z), for a vector at a time; chosen as the kernel runs.
template <class T>
struct Activated {
  using Math = std::conditional_t<sizeof(T) == 2, NarrowMath, DeviceMath>;
  using C = compute_t<T>;
  Activation activation;
  bool saves_y;  ///< the gradient is a function of y, not of z

  template <int kCount>
  struct Value {
    Vector<C, kCount>& z;
    template <class Function>
    constexpr void operator()() {
      for (int k = 0; k < kCount; ++k) z.at[k] = Function::value(z.at[k], {});
    }
  };
  template <int kCount>
  struct Gradient {
    Vector<C, kCount>& z;
    Vector<C, kCount>& dy;
    bool saves_y;
    template <class Function>
    constexpr void operator()() {
      for (int k = 0; k < kCount; ++k) {
        const C saved = saves_y ? Function::value(z.at[k], {}) : z.at[k];
        dy.at[k] = Function::gradient(dy.at[k], saved, {});
      }
    }
  };

  template <int kCount>
  __device__ void value(Vector<C, kCount>& z) const {
    fn::visit_activation<Math>(activation, Value<kCount>{z});
  }
  template <int kCount>
  __device__ void gradient(Vector<C, kCount>& z, Vector<C, kCount>& dy) const {
    fn::visit_activation<Math>(activation, Gradient<kCount>{z, dy, saves_y});
  }
};

/// One block per row. A thread reads back only what it wrote itself.
template <bool kCentred, int kWidth, class A, class T>
__global__ void __launch_bounds__(kAnyThreads, 4) any_norm_forward_kernel(NormForwardData<T> p, A activation) {
  using C = compute_t<T>;
  __shared__ C shared[kAnyThreads / kWarp];
  const std::int64_t base = static_cast<std::int64_t>(blockIdx.x) * p.columns;
  const std::uint64_t offset = p.mask.offset();
  const std::int64_t first = static_cast<std::int64_t>(threadIdx.x) * kWidth;
  constexpr int kStep = kAnyThreads * kWidth;
  const T* s = p.branch != nullptr ? p.sum : p.x;
  C total = 0;  // of the elements, or of their squares
#pragma unroll 4
  for (std::int64_t c = first; c < p.columns; c += kStep) {
    auto x = load_vector<kWidth>(p.x + base + c);
    if (p.branch != nullptr) {
      auto added = widen_vector(load_vector<kWidth>(p.branch + base + c));
      if (p.mask.on) p.mask.apply(added, offset, base + c);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) x.at[k] = narrow_to<T>(widen(x.at[k]) + added.at[k]);
      store_vector(p.sum + base + c, x);
    }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) total += kCentred ? widen(x.at[k]) : widen(x.at[k]) * widen(x.at[k]);
  }
  C squares = block_combine<kAnyThreads>(total, Plus(), shared);
  C mean = 0;
  if constexpr (kCentred) {
    mean = squares / static_cast<C>(p.columns);
    C own = 0;
#pragma unroll 4
    for (std::int64_t c = first; c < p.columns; c += kStep) {
      const auto x = widen_vector(load_vector<kWidth>(s + base + c));
#pragma unroll
      for (int k = 0; k < kWidth; ++k) own += (x.at[k] - mean) * (x.at[k] - mean);
    }
    squares = block_combine<kAnyThreads>(own, Plus(), shared);
  }
  const C rstd = C(1) / sqrt(squares / static_cast<C>(p.columns) + p.eps);
  for (std::int64_t c = first; c < p.columns; c += kStep) {
    auto z = widen_vector(load_vector<kWidth>(s + base + c));
    const auto w = load_parameter<kWidth>(p.weight, c, C(1));
    const auto b = load_parameter<kWidth>(p.bias, c, C(0));
#pragma unroll
    for (int k = 0; k < kWidth; ++k) z.at[k] = (z.at[k] - mean) * rstd * w.at[k] + b.at[k];
    if constexpr (!std::is_same_v<A, Plain>) activation.value(z);
    store_vector(p.y + base + c, narrow_vector<T>(z));
  }
  if (threadIdx.x != 0) return;
  if constexpr (kCentred) p.mean[blockIdx.x] = mean;
  p.rstd[blockIdx.x] = rstd;
}

/// hat and dz of one vector.
template <int kWidth, class C>
struct HatAndGradient {
  Vector<C, kWidth> hat;
  Vector<C, kWidth> dz;
};

template <int kWidth, class A, class T>
__device__ HatAndGradient<kWidth, compute_t<T>> hat_and_gradient(
    const NormBackwardData<T>& p, const A& activation, const Vector<T, kWidth>& s, const Vector<T, kWidth>& dy,
    compute_t<T> mean, compute_t<T> rstd, const Vector<compute_t<T>, kWidth>& w, [[maybe_unused]] std::int64_t c) {
  using C = compute_t<T>;
  HatAndGradient<kWidth, C> r;
#pragma unroll
  for (int k = 0; k < kWidth; ++k) r.hat.at[k] = (widen(s.at[k]) - mean) * rstd;
  r.dz = widen_vector(dy);
  if constexpr (!std::is_same_v<A, Plain>) {
    auto z = load_parameter<kWidth>(p.bias, c, C(0));
#pragma unroll
    for (int k = 0; k < kWidth; ++k) z.at[k] += r.hat.at[k] * w.at[k];
    activation.gradient(z, r.dz);
  }
  return r;
}

/// One block per row: the means of g and of g * hat to means[row].
template <bool kCentred, int kWidth, class A, class T>
__global__ void __launch_bounds__(kAnyThreads, 4)
    any_norm_row_sums_kernel(NormBackwardData<T> p, A activation, GradientSums<true, compute_t<T>>* means) {
  using C = compute_t<T>;
  using Sums = GradientSums<kCentred, C>;
  __shared__ Sums shared[kAnyThreads / kWarp];
  const std::int64_t row = blockIdx.x;
  const C mean = kCentred ? p.mean[row] : C(0);
  const C rstd = p.rstd[row];
  Sums sums{};
#pragma unroll 2
  for (std::int64_t c = static_cast<std::int64_t>(threadIdx.x) * kWidth; c < p.columns; c += kAnyThreads * kWidth) {
    const auto s = load_vector<kWidth>(p.s + row * p.columns + c);
    const auto dy = load_vector<kWidth>(p.dy + row * p.columns + c);
    const auto w = load_parameter<kWidth>(p.weight, c, C(1));
    const auto r = hat_and_gradient<kWidth>(p, activation, s, dy, mean, rstd, w, c);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      if constexpr (kCentred) sums.g += r.dz.at[k] * w.at[k];
      sums.g_hat += r.dz.at[k] * w.at[k] * r.hat.at[k];
    }
  }
  sums = block_combine<kAnyThreads>(sums, MergeGradientSums(), shared);
  if (threadIdx.x != 0) return;
  if constexpr (kCentred) means[row].g = sums.g / static_cast<C>(p.columns);
  means[row].g_hat = sums.g_hat / static_cast<C>(p.columns);
}

/// A thread takes kWidth columns and every gridDim.x-th row; blocks with one blockIdx.x make a partial row.
template <bool kCentred, int kWidth, class A, class T>
__global__ void __launch_bounds__(kAnyThreads, 3)
    any_norm_backward_kernel(NormBackwardData<T> p, A activation, const GradientSums<true, compute_t<T>>* means) {
  using C = compute_t<T>;
  const std::int64_t c = (static_cast<std::int64_t>(blockIdx.y) * kAnyThreads + threadIdx.x) * kWidth;
  if (c >= p.columns) return;
  const std::uint64_t offset = p.mask.offset();
  const auto w = load_parameter<kWidth>(p.weight, c, C(1));
  Vector<C, kWidth> dweight = {};
  Vector<C, kWidth> dbias = {};
#pragma unroll 2
  for (std::int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const std::int64_t at = row * p.columns + c;
    const auto s = load_vector<kWidth>(p.s + at);
    const auto dy = load_vector<kWidth>(p.dy + at);
    const C rstd = p.rstd[row];
    const auto r = hat_and_gradient<kWidth>(p, activation, s, dy, kCentred ? p.mean[row] : C(0), rstd, w, c);
    const C mean_g = kCentred ? means[row].g : C(0);
    const C mean_g_hat = means[row].g_hat;
    Vector<C, kWidth> ds;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      dweight.at[k] += r.dz.at[k] * r.hat.at[k];
      dbias.at[k] += r.dz.at[k];
      ds.at[k] = rstd * (r.dz.at[k] * w.at[k] - mean_g - r.hat.at[k] * mean_g_hat);
    }
    if (p.dsum != nullptr) {
      const auto dsum = widen_vector(load_vector<kWidth>(p.dsum + at));
#pragma unroll
      for (int k = 0; k < kWidth; ++k) ds.at[k] += dsum.at[k];
    }
    if (p.dx != nullptr) store_vector(p.dx + at, narrow_vector<T>(ds));
    if (p.dbranch != nullptr) {
      p.mask.apply(ds, offset, at);
      store_vector(p.dbranch + at, narrow_vector<T>(ds));
    }
  }
  const std::int64_t to = static_cast<std::int64_t>(blockIdx.x) * p.columns + c;
  if (p.partial_dweight != nullptr) store_vector(p.partial_dweight + to, dweight);
  if (p.partial_dbias != nullptr) store_vector(p.partial_dbias + to, dbias);
}

}  // namespace trinix::cuda
