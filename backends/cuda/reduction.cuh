#pragma once

#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/cuda/scratch.h>

/// @file
/// Reduces any dims of a strided tensor with a monoid: a struct with
///   State; identity(); add(State, value, index); merge(State, State); finish(State, count) -> result;
/// merge is commutative. A monoid that depends on the output has a member of_output(i), which returns the one for
/// output i, counted in row-major order. Partial results are combined in a fixed order: the result does not vary from
/// run to run.

namespace trinix::cuda {

/// A tensor split into the dims that are kept and those that are reduced.
struct ReductionGeometry {
  DeviceWalk<2> kept;     ///< view 0: input, view 1: output
  DeviceWalk<1> reduced;  ///< input
  std::int64_t outputs = 1;
  std::int64_t count = 1;     ///< inputs per output
  bool column_major = false;  ///< neighbouring outputs read neighbouring inputs
};

namespace internal {

/// Splits by which dims of `out` have size 1; both views have one rank.
inline ReductionGeometry split_dims(const View& x, const View& out) {
  View kept_x = x, kept_out = out, reduced_x = x;
  for (int d = 0; d < x.rank(); ++d) {
    const bool is_reduced = out.shape[d] == 1 && x.shape[d] != 1;
    (is_reduced ? kept_x : reduced_x).shape[d] = 1;
  }
  kept_out.shape = kept_x.shape;
  const auto kept = make_walk<2>({&kept_x, &kept_out});
  const auto reduced = make_walk<1>({&reduced_x});
  ReductionGeometry g;
  g.kept = to_device(kept, 1);
  g.reduced = to_device(reduced, 1);
  g.outputs = kept_x.numel();
  g.count = reduced_x.numel();
  g.column_major = kept.inner_stride(0) == 1 && kept.inner() >= 32 && (reduced.inner_stride(0) != 1 || g.count == 1);
  return g;
}

}  // namespace internal

template <class M>
__device__ M monoid_of_output(M monoid, [[maybe_unused]] std::int64_t output) {
  if constexpr (requires { monoid.of_output(output); }) {
    return monoid.of_output(output);
  } else {
    return monoid;
  }
}

/// Elements of a state that one thread keeps side by side, one per element of a vector; limited by its registers.
template <class M, class T>
inline constexpr int kReduceVector = std::min(kPerAccess<T>,
                                              std::max(1, 64 / static_cast<int>(sizeof(typename M::State))));

/// The states of kCount neighbours as one.
template <int kCount, class M>
__device__ typename M::State merge_all(const M& monoid, typename M::State (&states)[kCount]) {
#pragma unroll
  for (int step = 1; step < kCount; step *= 2) {
#pragma unroll
    for (int k = 0; k + step < kCount; k += 2 * step) states[k] = monoid.merge(states[k], states[k + step]);
  }
  return states[0];
}

/// Vectors begin, begin + step, ... below end of one output. Four loads at a time, which do not wait for one another,
/// and several states, so that sums lose fewer digits. With kVector > 1 the elements lie behind one another.
template <int kVector, class M, class T>
__device__ typename M::State accumulate(const ReductionGeometry& g, const M& monoid, const T* x, std::int64_t begin,
                                        std::int64_t end, std::int64_t step) {
  constexpr int kStates = kVector > 1 ? kVector : 4;
  typename M::State states[kStates];
#pragma unroll
  for (int k = 0; k < kStates; ++k) states[k] = monoid.identity();
  const auto load = [&](std::int64_t i) {
    std::int64_t at[1] = {i * kVector};
    if constexpr (kVector == 1) g.reduced.offsets(i, at);
    return load_vector<kVector>(x + at[0]);
  };
  const auto add = [&](const Vector<T, kVector>& v, std::int64_t i, int first) {
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      auto& state = states[(first + k) % kStates];
      state = monoid.add(state, widen(v.at[k]), i * kVector + k);
    }
  };
  std::int64_t i = begin;
  for (; i + 3 * step < end; i += 4 * step) {
    Vector<T, kVector> v[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) v[u] = load(i + u * step);
#pragma unroll
    for (int u = 0; u < 4; ++u) add(v[u], i + u * step, kVector > 1 ? 0 : u);
  }
  for (; i < end; i += step) add(load(i), i, 0);
  return merge_all<kStates>(monoid, states);
}

/// Threads of a block of all kernels here but the last.
inline constexpr int kReduceThreads = 256;

/// kThreads (a warp or a block) per output and split: for inputs that lie behind one another. `chunk` counts vectors.
template <int kThreads, int kVector, class M, class T>
__global__ void __launch_bounds__(kReduceThreads, 1)
    reduce_rows_kernel(ReductionGeometry g, M monoids, const T* x, std::int64_t splits, std::int64_t chunk,
                       typename M::State* partial) {
  using State = typename M::State;
  __shared__ State shared[kThreads / kWarp];
  const std::int64_t job = static_cast<std::int64_t>(blockIdx.x) * (kReduceThreads / kThreads) + threadIdx.y;
  const std::int64_t output = job / splits;
  if (output >= g.outputs) return;
  const M monoid = monoid_of_output(monoids, output);
  std::int64_t offsets[2];
  g.kept.offsets(output, offsets);
  const std::int64_t begin = (job - output * splits) * chunk;
  const std::int64_t vectors = g.count / kVector;
  const std::int64_t end = begin + chunk < vectors ? begin + chunk : vectors;
  State state = accumulate<kVector>(g, monoid, x + offsets[0], begin + threadIdx.x, end, kThreads);
  state = block_combine<kThreads>(
      state, [&](const State& a, const State& b) { return monoid.merge(a, b); }, shared);
  if (threadIdx.x == 0) partial[job] = state;
}

/// Neighbouring outputs, whose inputs are neighbours too: a block takes a vector of them per lane, and its warps the
/// inputs in turn. blockIdx.y is the split, `chunk` its inputs.
template <int kVector, class M, class T>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_columns_kernel(ReductionGeometry g, M monoids, const T* x, std::int64_t chunk, typename M::State* partial) {
  using State = typename M::State;
  constexpr int kRows = kReduceThreads / kWarp;
  constexpr int kColumns = kWarp * kVector;
  __shared__ State shared[kRows][kColumns];
  const std::int64_t block_first = static_cast<std::int64_t>(blockIdx.x) * kColumns;
  const std::int64_t first = block_first + threadIdx.x * kVector;
  State states[kVector];
  if (first < g.outputs) {
    M monoid[kVector];
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      monoid[k] = monoid_of_output(monoids, first + k);
      states[k] = monoid[k].identity();
    }
    std::int64_t offsets[2];
    g.kept.offsets(first, offsets);
    const std::int64_t begin = blockIdx.y * chunk;
    const std::int64_t end = begin + chunk < g.count ? begin + chunk : g.count;
    const auto load = [&](std::int64_t i) {
      std::int64_t at[1];
      g.reduced.offsets(i, at);
      return load_vector<kVector>(x + offsets[0] + at[0]);
    };
    const auto add = [&](const Vector<T, kVector>& v, std::int64_t i) {
#pragma unroll
      for (int k = 0; k < kVector; ++k) states[k] = monoid[k].add(states[k], widen(v.at[k]), i);
    };
    std::int64_t i = begin + threadIdx.y;
    for (; i + 3 * kRows < end; i += 4 * kRows) {
      Vector<T, kVector> v[4];
#pragma unroll
      for (int u = 0; u < 4; ++u) v[u] = load(i + u * kRows);
#pragma unroll
      for (int u = 0; u < 4; ++u) add(v[u], i + u * kRows);
    }
    for (; i < end; i += kRows) add(load(i), i);
#pragma unroll
    for (int k = 0; k < kVector; ++k) shared[threadIdx.y][threadIdx.x * kVector + k] = states[k];
  }
  __syncthreads();
  for (int c = threadIdx.y * kWarp + threadIdx.x; c < kColumns; c += kReduceThreads) {
    const std::int64_t output = block_first + c;
    if (output >= g.outputs) return;
    const M monoid = monoid_of_output(monoids, output);
    State state = shared[0][c];
#pragma unroll
    for (int r = 1; r < kRows; ++r) state = monoid.merge(state, shared[r][c]);
    partial[output * gridDim.y + blockIdx.y] = state;
  }
}

/// kLanes threads (1 or a warp) per output merge its splits.
template <int kLanes, class M, class R>
__global__ void finish_reduction_kernel(ReductionGeometry g, M monoids, const typename M::State* partial,
                                        std::int64_t splits, R* out, bool accumulate) {
  using State = typename M::State;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t output = thread / kLanes;
  if (output >= g.outputs) return;
  const M monoid = monoid_of_output(monoids, output);
  State state = monoid.identity();
  for (std::int64_t s = thread % kLanes; s < splits; s += kLanes) {
    state = monoid.merge(state, partial[output * splits + s]);
  }
  if constexpr (kLanes > 1) {
    state = warp_combine(state, [&](const State& a, const State& b) { return monoid.merge(a, b); });
    if (thread % kLanes != 0) return;
  }
  std::int64_t offsets[2];
  g.kept.offsets(output, offsets);
  R& to = out[offsets[1]];
  const auto result = monoid.finish(state, g.count);
  if constexpr (!std::is_same_v<R, bool>) {
    to = accumulate ? narrow_to<R>(widen(to) + result) : narrow_to<R>(result);
  } else {
    to = result;
  }
}

namespace internal {

/// Whether all strides but the innermost are multiples of `count`.
template <int kViews>
bool outer_strides_fit(const DeviceWalk<kViews>& walk, int from, int count) {
  for (int d = from; d < walk.rank; ++d) {
    if (walk.strides[0][d] % count != 0) return false;
  }
  return true;
}

/// Whether a vector of `count` inputs can be loaded at a time: of one output, or of neighbouring ones.
inline bool reduces_in_vectors(const ReductionGeometry& g, const View& x, int count) {
  if (reinterpret_cast<std::uintptr_t>(x.data) % (size_of(x.dtype) * static_cast<std::size_t>(count)) != 0)
    return false;
  if (g.column_major) {
    return g.kept.sizes[0].divisor % static_cast<unsigned>(count) == 0 && outer_strides_fit(g.kept, 1, count) &&
           (g.count == 1 || outer_strides_fit(g.reduced, 0, count));
  }
  return g.reduced.rank == 1 && g.reduced.strides[0][0] == 1 && g.count % count == 0 &&
         (g.outputs == 1 || outer_strides_fit(g.kept, 0, count));
}

/// States that a reduction leaves, and how many of them each output has.
struct PartialStates {
  Scratch memory;
  std::int64_t splits;
};

/// Queues the kernel that leaves outputs x splits states.
template <int kVector, class T, class M>
PartialStates launch_partial(const char* op, const ReductionGeometry& g, const M& monoid, const View& x,
                             const Stream& stream) {
  using State = typename M::State;
  // Enough blocks to fill the card several times over, each with enough to do.
  const std::int64_t wanted = multiprocessors(stream) * std::int64_t{8};
  const auto allocate = [&](std::int64_t splits) {
    return Scratch(static_cast<std::size_t>(g.outputs * splits) * sizeof(State), stream);
  };
  const auto splits_for = [](std::int64_t most, std::int64_t elements, std::int64_t least) {
    return std::clamp<std::int64_t>(std::min(most, ceil_div(elements, least)), 1, 2048);
  };
  if (g.column_major) {
    const std::int64_t units = ceil_div(g.outputs, kWarp * kVector);
    const std::int64_t splits = splits_for(wanted / units, g.count, 128);
    Scratch partial = allocate(splits);
    launch(op, reduce_columns_kernel<kVector, M, T>,
           {.grid = dim3(static_cast<unsigned>(units), static_cast<unsigned>(splits)),
            .block = dim3(kWarp, kReduceThreads / kWarp)},
           stream, g, monoid, x.as<T>(), ceil_div(std::max<std::int64_t>(g.count, 1), splits), partial.as<State>());
    return {std::move(partial), splits};
  }
  const std::int64_t vectors = g.count / kVector;
  const auto rows = [&]<int kThreads>() {
    constexpr int kJobs = kReduceThreads / kThreads;
    const std::int64_t splits = splits_for(wanted * kJobs / g.outputs, vectors, 16 * kThreads);
    Scratch partial = allocate(splits);
    launch(op, reduce_rows_kernel<kThreads, kVector, M, T>,
           {.grid = dim3(static_cast<unsigned>(ceil_div(g.outputs * splits, kJobs))), .block = dim3(kThreads, kJobs)},
           stream, g, monoid, x.as<T>(), splits, ceil_div(std::max<std::int64_t>(vectors, 1), splits),
           partial.as<State>());
    return PartialStates{std::move(partial), splits};
  };
  if constexpr (kVector > 1) {
    if (vectors > 512) return rows.template operator()<kReduceThreads>();
  }
  return rows.template operator()<kWarp>();
}

}  // namespace internal

/// out = reduction of x (or out += it); T and R are the storage types of x and out. Floor: one read of x.
template <class T, class R, class M>
void reduce(const char* op, M monoid, const View& x, const View& out, bool accumulate, const Stream& stream) {
  constexpr int kVector = kReduceVector<M, T>;
  const ReductionGeometry g = internal::split_dims(x, out);
  if (g.outputs == 0) return;
  if (g.outputs > INT32_MAX || (g.reduced.rank > 1 && g.count > UINT32_MAX)) {
    trinix::detail::fail<ShapeError>(op,
                                     "{} results of {} elements each are more than a CUDA kernel here can index; "
                                     "reduce a part at a time",
                                     g.outputs, g.count);
  }
  const auto partial = internal::reduces_in_vectors(g, x, kVector)
                           ? internal::launch_partial<kVector, T>(op, g, monoid, x, stream)
                           : internal::launch_partial<1, T>(op, g, monoid, x, stream);
  const auto finish = [&]<int kLanes>() {
    const std::int64_t blocks = ceil_div(g.outputs * kLanes, kReduceThreads);
    launch(op, finish_reduction_kernel<kLanes, M, R>,
           {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kReduceThreads)}, stream, g, monoid,
           partial.memory.template as<typename M::State>(), partial.splits, out.as<R>(), accumulate);
  };
  if (partial.splits > 4) {
    finish.template operator()<kWarp>();
  } else {
    finish.template operator()<1>();
  }
}

}  // namespace trinix::cuda
