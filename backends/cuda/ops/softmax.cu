#include <limits>

#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/cuda/rows.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/softmax.h>

namespace trinix::cuda {

namespace {

/// Where the rows lie: outer walk over all dims but the softmax dim, and the step along it.
struct RowGeometry {
  DeviceWalk<3> rows;
  std::int64_t count = 0;
  std::int64_t length = 0;
  std::int64_t steps[3] = {0, 0, 0};
};

RowGeometry row_geometry(int dim, View a, View b, View c) {
  RowGeometry g;
  g.length = a.shape[dim];
  int i = 0;
  for (View* v : {&a, &b, &c}) {
    g.steps[i++] = v->strides[dim];
    v->shape[dim] = 1;
  }
  g.count = a.numel();
  g.rows = internal::to_device(make_walk<3>({&a, &b, &c}), 1);
  return g;
}

/// Maximum and sum of exp(x - maximum) in one sweep (Milakov and Gimelshein, arXiv 1805.02867).
template <class C>
struct Statistics {
  C max;
  C sum;
};

template <class C>
struct MergeStatistics {
  __device__ Statistics<C> operator()(Statistics<C> a, Statistics<C> b) const {
    const C m = a.max > b.max || a.max != a.max ? a.max : b.max;
    const auto scaled = [m](Statistics<C> s) { return s.max == m ? s.sum : s.sum * exp(s.max - m); };
    return {m, scaled(a) + scaled(b)};
  }
};

/// Rows of any length and stride, one block each. Two sweeps over x, the second mostly from L2.
template <int kThreads, class T>
__global__ void __launch_bounds__(kThreads) softmax_kernel(RowGeometry g, const T* x, T* y, bool log_form) {
  using C = compute_t<T>;
  __shared__ Statistics<C> shared[kThreads / kWarp];
  std::int64_t at[3];
  g.rows.offsets(blockIdx.x, at);
  const T* row = x + at[0];
  T* out = y + at[1];
  Statistics<C> s{-static_cast<C>(INFINITY), C(0)};
  for (std::int64_t i = threadIdx.x; i < g.length; i += kThreads) {
    const C v = widen(row[i * g.steps[0]]);
    s = v == -static_cast<C>(INFINITY) ? s : MergeStatistics<C>()(s, {v, C(1)});
  }
  s = block_combine<kThreads>(s, MergeStatistics<C>(), shared);
  const bool empty = s.sum == C(0);  // a row of only -inf: zeros, never NaN
  const C inverse = empty ? C(0) : C(1) / s.sum;
  const C log_sum = empty ? C(0) : log(s.sum);
  for (std::int64_t i = threadIdx.x; i < g.length; i += kThreads) {
    const C v = widen(row[i * g.steps[0]]);
    const C centred = empty ? -static_cast<C>(INFINITY) : v - s.max;
    out[i * g.steps[1]] = narrow_to<T>(log_form ? centred - log_sum : exp(centred) * inverse);
  }
}

/// softmax: dx = y (dy - sum(dy y)); log-softmax: dx = dy - exp(y) sum(dy), and 0 where all of a row is -inf.
template <int kThreads, class T>
__global__ void __launch_bounds__(kThreads)
    softmax_backward_kernel(RowGeometry g, const T* y, const T* dy, T* dx, bool log_form) {
  using C = compute_t<T>;
  __shared__ C shared[kThreads / kWarp];
  std::int64_t at[3];
  g.rows.offsets(blockIdx.x, at);
  C sum = 0;
  for (std::int64_t i = threadIdx.x; i < g.length; i += kThreads) {
    const C d = widen(dy[at[1] + i * g.steps[1]]);
    sum += log_form ? d : d * widen(y[at[0] + i * g.steps[0]]);
  }
  sum = block_combine<kThreads>(sum, Plus(), shared);
  bool constant = false;
  if (log_form) {  // a row of only -inf; as a rule a thread sees at its first element that it is none
    bool finite = false;
    for (std::int64_t i = threadIdx.x; i < g.length && !finite; i += kThreads) {
      finite = widen(y[at[0] + i * g.steps[0]]) != -static_cast<C>(INFINITY);
    }
    constant = __syncthreads_or(finite ? 1 : 0) == 0;
  }
  for (std::int64_t i = threadIdx.x; i < g.length; i += kThreads) {
    const C d = widen(dy[at[1] + i * g.steps[1]]);
    const C v = widen(y[at[0] + i * g.steps[0]]);
    const C gradient = log_form ? d - exp(v) * sum : v * (d - sum);
    dx[at[2] + i * g.steps[2]] = narrow_to<T>(constant ? C(0) : gradient);
  }
}

/// Rows that lie contiguous and fit into registers: kVectors vectors of kWidth elements per thread. Floor: one read and
/// one write.
template <int kThreads, int kWidth, int kVectors, class T>
__global__ void __launch_bounds__(kThreads* kRowGroups<kThreads>)
    softmax_row_kernel(RowGeometry g, const T* x, T* y, bool log_form) {
  using C = compute_t<T>;
  constexpr C kNone = -std::numeric_limits<C>::infinity();
  __shared__ C shared[kThreads / kWarp];
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRowGroups<kThreads> + threadIdx.y;
  if (row >= g.count) return;
  std::int64_t at[3];
  g.rows.offsets(row, at);
  Vector<C, kWidth> held[kVectors];
  C max = kNone;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
    Vector<T, kWidth> loaded;
    if (c < g.length) loaded = load_vector<kWidth>(x + at[0] + c);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      held[v].at[k] = c < g.length ? widen(loaded.at[k]) : kNone;
      max = Larger()(max, held[v].at[k]);
    }
  }
  max = block_combine<kThreads>(max, Larger(), shared);
  const C shift = max == kNone ? C(0) : max;
  C sum = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const C centred = held[v].at[k] - shift;
      const C e = exp(centred);
      sum += e;
      held[v].at[k] = log_form ? centred : e;
    }
  }
  sum = block_combine<kThreads>(sum, Plus(), shared);
  const C inverse = sum == C(0) ? C(0) : C(1) / sum;  // a row of only -inf: zeros, never NaN
  const C log_sum = sum == C(0) ? C(0) : log(sum);
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
    if (c < g.length) {
      Vector<T, kWidth> out;
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        out.at[k] = narrow_to<T>(log_form ? held[v].at[k] - log_sum : held[v].at[k] * inverse);
      }
      store_vector(y + at[1] + c, out);
    }
  }
}

/// The gradient for the same rows. Floor: two reads and one write.
template <int kThreads, int kWidth, int kVectors, class T>
__global__ void __launch_bounds__(kThreads* kRowGroups<kThreads>)
    softmax_row_backward_kernel(RowGeometry g, const T* y, const T* dy, T* dx, bool log_form) {
  using C = compute_t<T>;
  constexpr C kNone = -std::numeric_limits<C>::infinity();
  struct State {
    C sum;
    C max;
  };
  __shared__ State shared[kThreads / kWarp];
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRowGroups<kThreads> + threadIdx.y;
  if (row >= g.count) return;
  std::int64_t at[3];
  g.rows.offsets(row, at);
  Vector<T, kWidth> values[kVectors];
  Vector<T, kWidth> slopes[kVectors];
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
    if (c < g.length) {
      values[v] = load_vector<kWidth>(y + at[0] + c);
      slopes[v] = load_vector<kWidth>(dy + at[1] + c);
    }
  }
  State s{C(0), kNone};
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
    if (c < g.length) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const C value = widen(values[v].at[k]);
        const C d = widen(slopes[v].at[k]);
        s.sum += log_form ? d : d * value;
        s.max = Larger()(s.max, value);
      }
    }
  }
  s = block_combine<kThreads>(
      s,
      [](State a, State b) {
        return State{a.sum + b.sum, Larger()(a.max, b.max)};
      },
      shared);
  const bool constant = log_form && s.max == kNone;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t c = (static_cast<std::int64_t>(v) * kThreads + threadIdx.x) * kWidth;
    if (c < g.length) {
      Vector<T, kWidth> out;
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const C value = widen(values[v].at[k]);
        const C d = widen(slopes[v].at[k]);
        const C gradient = log_form ? d - exp(value) * s.sum : value * (d - s.sum);
        out.at[k] = narrow_to<T>(constant ? C(0) : gradient);
      }
      store_vector(dx + at[2] + c, out);
    }
  }
}

/// Longest row that the registers of one block hold.
[[nodiscard]] std::int64_t longest_row(DType t) { return t == DType::f64 ? 4096 : 8192; }

/// Whether the rows of all views can be loaded in vectors of `count`.
bool rows_in_vectors(const RowGeometry& g, std::initializer_list<const View*> views, int count) {
  for (const View* v : views) {
    const auto bytes = size_of(v->dtype) * static_cast<std::size_t>(count);
    if (reinterpret_cast<std::uintptr_t>(v->data) % bytes != 0) return false;
  }
  for (const auto& strides : g.rows.strides) {
    for (int d = 0; g.count > 1 && d < g.rows.rank; ++d) {
      if (strides[d] % count != 0) return false;
    }
  }
  return true;
}

/// Whether the rows go through registers.
bool fits_registers(const RowGeometry& g, DType t) {
  return g.steps[0] == 1 && g.steps[1] == 1 && g.steps[2] == 1 && g.length <= longest_row(t);
}

/// Threads per row: a warp for short rows, where more would idle.
template <class F>
void with_threads(std::int64_t length, F f) {
  if (length <= 128) return f.template operator()<32>();
  if (length <= 2048) return f.template operator()<128>();
  f.template operator()<512>();
}

void softmax_forward(const Softmax::Forward& args, const Stream& stream) {
  const RowGeometry g = row_geometry(args.dim, args.x, args.y, args.y);
  if (g.count == 0 || g.length == 0) return;
  dispatch_floating(args.x.dtype, "softmax", [&]<class T>() {
    if (fits_registers(g, args.x.dtype)) {
      const bool aligned = rows_in_vectors(g, {&args.x, &args.y}, kPerAccess<T>);
      return with_row_shape<T>(g.length, aligned, [&]<int kThreads, int kWidth, int kVectors>() {
        constexpr int kGroups = kRowGroups<kThreads>;
        const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(g.count, kGroups))),
                                .block = dim3(kThreads, kGroups)};
        launch("softmax", softmax_row_kernel<kThreads, kWidth, kVectors, T>, shape, stream, g, args.x.as<T>(),
               args.y.as<T>(), args.log);
      });
    }
    with_threads(g.length, [&]<int kThreads>() {
      const LaunchShape shape{.grid = dim3(static_cast<unsigned>(g.count)), .block = dim3(kThreads)};
      launch("softmax", softmax_kernel<kThreads, T>, shape, stream, g, args.x.as<T>(), args.y.as<T>(), args.log);
    });
  });
}

void softmax_backward(const Softmax::Backward& args, const Stream& stream) {
  const RowGeometry g = row_geometry(args.dim, args.y, args.dy, args.dx);
  if (g.count == 0 || g.length == 0) return;
  dispatch_floating(args.y.dtype, "softmax", [&]<class T>() {
    if (fits_registers(g, args.y.dtype)) {
      const bool aligned = rows_in_vectors(g, {&args.y, &args.dy, &args.dx}, kPerAccess<T>);
      return with_row_shape<T>(g.length, aligned, [&]<int kThreads, int kWidth, int kVectors>() {
        constexpr int kGroups = kRowGroups<kThreads>;
        const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(g.count, kGroups))),
                                .block = dim3(kThreads, kGroups)};
        launch("softmax", softmax_row_backward_kernel<kThreads, kWidth, kVectors, T>, shape, stream, g, args.y.as<T>(),
               args.dy.as<T>(), args.dx.as<T>(), args.log);
      });
    }
    with_threads(g.length, [&]<int kThreads>() {
      const LaunchShape shape{.grid = dim3(static_cast<unsigned>(g.count)), .block = dim3(kThreads)};
      launch("softmax", softmax_backward_kernel<kThreads, T>, shape, stream, g, args.y.as<T>(), args.dy.as<T>(),
             args.dx.as<T>(), args.log);
    });
  });
}

}  // namespace

void register_softmax() {
  register_kernel<Softmax>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, softmax_forward, softmax_backward});
}

}  // namespace trinix::cuda
