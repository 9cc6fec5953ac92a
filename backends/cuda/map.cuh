#pragma once

#include <array>
#include <tuple>
#include <utility>

#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/walk.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

/// @file
/// out[i] = f(in[i]...) over strided and broadcast views of one shape: the body of every elementwise kernel.

namespace trinix::cuda {

/// n / d and n % d for 32-bit n by a multiplication (Granlund and Montgomery, PLDI 1994).
struct Divider {
  std::uint32_t divisor = 1;
  std::uint32_t multiplier = 0;
  std::uint32_t shift = 0;

  Divider() = default;
  /// A dim of size 0 has nothing to walk; it divides as 1, so that empty views need no care here.
  explicit Divider(std::uint32_t size) : divisor(size == 0 ? 1 : size) {
    const std::uint32_t d = divisor;
    while (shift < 32 && (std::uint64_t{1} << shift) < d) ++shift;
    multiplier = static_cast<std::uint32_t>((((std::uint64_t{1} << shift) - d) << 32) / d + 1);
  }
  __device__ std::uint32_t quotient(std::uint32_t n) const {
    const std::uint32_t high = __umulhi(n, multiplier);
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(high) + n) >> shift);
  }
};

/// A Walk as the device sees it: the innermost dim counted in vectors.
template <int kViews>
struct DeviceWalk {
  int rank = 1;
  Divider sizes[kMaxRank];                      ///< of the inner dims, innermost first
  std::int64_t strides[kViews][kMaxRank] = {};  ///< in elements per step of that dim, innermost first

  __device__ void offsets(std::int64_t vector, std::int64_t (&result)[kViews]) const {
    if (rank == 1) {
#pragma unroll
      for (int v = 0; v < kViews; ++v) result[v] = vector * strides[v][0];
      return;
    }
#pragma unroll
    for (int v = 0; v < kViews; ++v) result[v] = 0;
    auto rest = static_cast<std::uint32_t>(vector);
    for (int d = 0; d < rank; ++d) {
      const std::uint32_t q = d + 1 < rank ? sizes[d].quotient(rest) : 0;
      const std::uint32_t i = rest - q * sizes[d].divisor;
      rest = q;
#pragma unroll
      for (int v = 0; v < kViews; ++v) result[v] += i * strides[v][d];
    }
  }
};

/// An input of a map: its data, and whether one vector of it is a repeated element.
template <class T>
struct MapInput {
  const T* data;
  bool repeated;

  template <int kVector>
  __device__ Vector<T, kVector> load(std::int64_t offset) const {
    if (!repeated) return load_vector<kVector>(data + offset);
    Vector<T, kVector> v;
    const T value = data[offset];
#pragma unroll
    for (int k = 0; k < kVector; ++k) v.at[k] = value;
    return v;
  }
};

/// Vectors per thread. All of them are read before any is written, so that a thread has as many loads in flight per
/// input: at full occupancy 64 KB per input and multiprocessor, twice what it takes to keep the memory busy.
inline constexpr int kMapUnroll = 2;
inline constexpr int kMapThreads = 256;

/// What one thread reads of one input.
template <class T, int kVector>
struct MapGroup {
  Vector<T, kVector> at[kMapUnroll];
};

/// Of view kView, the vectors of this thread; `count` of them exist.
template <int kView, int kVector, class T, int kViews>
__device__ MapGroup<T, kVector> load_group(const MapInput<T>& in, const std::int64_t (&offsets)[kMapUnroll][kViews],
                                           int count) {
  MapGroup<T, kVector> group = {};
#pragma unroll
  for (int u = 0; u < kMapUnroll; ++u) {
    if (u < count) group.at[u] = in.template load<kVector>(offsets[u][kView]);
  }
  return group;
}

template <int kVector, class R, class F, int kViews, class... T>
__device__ void map_group(const std::int64_t (&offsets)[kMapUnroll][kViews], int count, F f, R* out,
                          const MapGroup<T, kVector>&... in) {
#pragma unroll
  for (int u = 0; u < kMapUnroll; ++u) {
    if (u >= count) return;
    Vector<R, kVector> r;
#pragma unroll
    for (int k = 0; k < kVector; ++k) r.at[k] = narrow_to<R>(f(widen(in.at[u].at[k])...));
    store_vector(out + offsets[u][0], r);
  }
}

template <int kVector, class R, class F, int kViews, class... T, std::size_t... I>
__device__ void map_group(const std::int64_t (&offsets)[kMapUnroll][kViews], int count, F f, R* out,
                          std::index_sequence<I...>, const MapInput<T>&... in) {
  map_group<kVector, R>(offsets, count, f, out, load_group<I + 1, kVector>(in, offsets, count)...);
}

template <int kVector, class R, class F, class... T>
__global__ void __launch_bounds__(kMapThreads)
    map_kernel(DeviceWalk<1 + sizeof...(T)> walk, std::int64_t vectors, F f, R* out, MapInput<T>... in) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * (kMapThreads * kMapUnroll) + threadIdx.x;
  std::int64_t offsets[kMapUnroll][1 + sizeof...(T)] = {};
  int count = 0;
#pragma unroll
  for (int u = 0; u < kMapUnroll; ++u) {
    const std::int64_t vector = first + u * kMapThreads;
    if (vector >= vectors) break;
    walk.offsets(vector, offsets[u]);
    count = u + 1;
  }
  map_group<kVector, R>(offsets, count, f, out, std::index_sequence_for<T...>(), in...);
}

namespace internal {

/// A walk in several dims counts in 32 bits. @throws ShapeError for more elements than that.
inline void check_indexable(const char* op, int rank, std::int64_t elements) {
  if (rank > 1 && elements >= (std::int64_t{1} << 32)) {
    trinix::detail::fail<ShapeError>(op,
                                     "{} elements in more than one piece are more than a CUDA kernel here can index; "
                                     "make the tensors contiguous",
                                     elements);
  }
}

/// Whether every view can be walked kVector elements at a time.
template <int kViews>
bool fits_vectors(const Walk<kViews>& w, const std::array<const View*, kViews>& views, int count) {
  if (w.inner() % count != 0) return false;
  for (int v = 0; v < kViews; ++v) {
    const auto& strides = w.strides[static_cast<std::size_t>(v)];
    const std::int64_t inner = w.inner_stride(v);
    if (inner == 0 && v > 0) continue;  // one element, repeated
    if (inner != 1) return false;
    const auto bytes = size_of(views[static_cast<std::size_t>(v)]->dtype) * static_cast<std::size_t>(count);
    if (reinterpret_cast<std::uintptr_t>(views[static_cast<std::size_t>(v)]->data) % bytes != 0) return false;
    for (int d = 0; d + 1 < w.rank; ++d) {
      if (strides[static_cast<std::size_t>(d)] % count != 0) return false;
    }
  }
  return true;
}

template <int kViews>
DeviceWalk<kViews> to_device(const Walk<kViews>& w, int count) {
  DeviceWalk<kViews> d;
  d.rank = w.rank;
  for (int i = 0; i < w.rank; ++i) {
    const auto from = static_cast<std::size_t>(w.rank - 1 - i);
    d.sizes[i] = Divider(static_cast<std::uint32_t>(i == 0 ? w.shape[from] / count : w.shape[from]));
    for (int v = 0; v < kViews; ++v) {
      d.strides[v][i] = w.strides[static_cast<std::size_t>(v)][from] * (i == 0 ? count : 1);
    }
  }
  return d;
}

template <int kVector, class R, class F, class... T>
void launch_map(const char* op, const Walk<1 + sizeof...(T)>& w, const Stream& stream, F f, R* out, const T*... in) {
  const std::int64_t vectors = w.inner() / kVector * w.rows();
  const auto walk = to_device(w, kVector);
  [[maybe_unused]] int view = 0;
  [[maybe_unused]] const auto input = [&]<class U>(const U* data) {
    return MapInput<U>{data, w.inner_stride(++view) == 0};
  };
  // Braces fix the order of evaluation, on which the count of views relies.
  const std::tuple<MapInput<T>...> inputs{input(in)...};
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(vectors, kMapThreads * kMapUnroll))),
                          .block = dim3(kMapThreads)};
  std::apply(
      [&](auto... operands) {
        launch(op, map_kernel<kVector, R, F, T...>, shape, stream, walk, vectors, f, out, operands...);
      },
      inputs);
}

}  // namespace internal

/// out = f(in...) elementwise; R and T are the storage types of `views[0]` and of the others. f takes and returns
/// compute types. A functor of which many kinds are compiled may have a member strided(), which gives the functor to
/// use where the views cannot be walked in whole vectors.
template <class R, class... T, class F>
void map(const char* op, const Stream& stream, F f, const std::array<const View*, 1 + sizeof...(T)>& views) {
  constexpr int kViews = 1 + static_cast<int>(sizeof...(T));
  const auto w = make_walk<kViews>(views);
  const std::int64_t total = w.inner() * w.rows();
  if (total == 0) return;
  internal::check_indexable(op, w.rank, total);
  constexpr int kWide = std::min({kPerAccess<R>, kPerAccess<T>...});
  const auto with_width = [&]<int kVector>(auto function) {
    using G = decltype(function);
    if constexpr (sizeof...(T) == 0) {  // apart, because nvcc 13.0 expands an empty pack in a lambda once
      internal::launch_map<kVector, R, G>(op, w, stream, function, views[0]->template as<R>());
    } else {
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        internal::launch_map<kVector, R, G, T...>(op, w, stream, function, views[0]->template as<R>(),
                                                  views[I + 1]->template as<T>()...);
      }
      (std::index_sequence_for<T...>());
    }
  };
  if constexpr (kWide > 1) {
    if (internal::fits_vectors<kViews>(w, views, kWide)) return with_width.template operator()<kWide>(f);
  }
  if constexpr (requires { f.strided(); }) {
    with_width.template operator()<1>(f.strided());
  } else {
    with_width.template operator()<1>(f);
  }
}

}  // namespace trinix::cuda
