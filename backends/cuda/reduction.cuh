#pragma once

#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/map.cuh>

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
  g.column_major = kept.inner_stride(0) == 1 && kept.inner() >= 32 && reduced.inner_stride(0) != 1;
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

/// Elements begin, begin + step, ... below end of one output. Four states at a time: the loads do not wait for one
/// another, and sums lose fewer digits.
template <class M, class T>
__device__ typename M::State accumulate(const ReductionGeometry& g, const M& monoid, const T* x, std::int64_t begin,
                                        std::int64_t end, std::int64_t step) {
  typename M::State states[4] = {monoid.identity(), monoid.identity(), monoid.identity(), monoid.identity()};
  const auto value = [&](std::int64_t i) {
    std::int64_t at[1];
    g.reduced.offsets(i, at);
    return widen(x[at[0]]);
  };
  std::int64_t i = begin;
  for (; i + 3 * step < end; i += 4 * step) {
#pragma unroll
    for (int k = 0; k < 4; ++k) states[k] = monoid.add(states[k], value(i + k * step), i + k * step);
  }
  for (; i < end; i += step) states[0] = monoid.add(states[0], value(i), i);
  return monoid.merge(monoid.merge(states[0], states[1]), monoid.merge(states[2], states[3]));
}

/// One block of kThreads per output and split: for inputs that lie behind one another.
template <int kThreads, class M, class T>
__global__ void __launch_bounds__(kThreads)
    reduce_rows_kernel(ReductionGeometry g, M monoids, const T* x, std::int64_t chunk, typename M::State* partial) {
  using State = typename M::State;
  __shared__ State shared[kThreads / kWarp];
  const M monoid = monoid_of_output(monoids, blockIdx.x);
  std::int64_t offsets[2];
  g.kept.offsets(blockIdx.x, offsets);
  const std::int64_t begin = blockIdx.y * chunk;
  const std::int64_t end = begin + chunk < g.count ? begin + chunk : g.count;
  State state = accumulate(g, monoid, x + offsets[0], begin + threadIdx.x, end, kThreads);
  state = block_combine<kThreads>(
      state, [&](const State& a, const State& b) { return monoid.merge(a, b); }, shared);
  if (threadIdx.x == 0) partial[static_cast<std::int64_t>(blockIdx.x) * gridDim.y + blockIdx.y] = state;
}

/// One thread per output and split, neighbours reading neighbours: for column sums.
template <class M, class T>
__global__ void reduce_columns_kernel(ReductionGeometry g, M monoids, const T* x, std::int64_t chunk,
                                      typename M::State* partial) {
  const std::int64_t output = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (output >= g.outputs) return;
  const M monoid = monoid_of_output(monoids, output);
  std::int64_t offsets[2];
  g.kept.offsets(output, offsets);
  const std::int64_t begin = blockIdx.y * chunk;
  const std::int64_t end = begin + chunk < g.count ? begin + chunk : g.count;
  partial[output * gridDim.y + blockIdx.y] = accumulate(g, monoid, x + offsets[0], begin, end, 1);
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

/// out = reduction of x (or out += it); T and R are the storage types of x and out.
template <class T, class R, class M>
void reduce(const char* op, M monoid, const View& x, const View& out, bool accumulate, const Stream& stream) {
  using State = typename M::State;
  constexpr int kThreads = 256;
  const ReductionGeometry g = internal::split_dims(x, out);
  if (g.outputs == 0) return;
  const std::int64_t units = g.column_major ? ceil_div(g.outputs, kThreads) : g.outputs;
  if (units > INT32_MAX || (g.reduced.rank > 1 && g.count > UINT32_MAX) ||
      (g.kept.rank > 1 && g.outputs > UINT32_MAX)) {
    trinix::detail::fail<ShapeError>(op,
                                     "{} results of {} elements each are more than a CUDA kernel here can index; "
                                     "reduce a part at a time",
                                     g.outputs, g.count);
  }
  // Enough blocks to fill the card several times over, each with enough to do.
  const std::int64_t wanted = multiprocessors(stream) * std::int64_t{8};
  const std::int64_t least = g.column_major ? 64 : 4096;
  const std::int64_t splits = std::clamp<std::int64_t>(std::min(wanted / units, ceil_div(g.count, least)), 1, 65535);
  const std::int64_t chunk = ceil_div(std::max<std::int64_t>(g.count, 1), splits);
  const std::size_t bytes = static_cast<std::size_t>(g.outputs * splits) * sizeof(State);
  Backend& backend = backend_of(stream.device);
  auto* partial = static_cast<State*>(backend.allocate(bytes, stream.device.index));
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(units), static_cast<unsigned>(splits)),
                          .block = dim3(kThreads)};
  if (g.column_major) {
    launch(op, reduce_columns_kernel<M, T>, shape, stream, g, monoid, x.as<T>(), chunk, partial);
  } else if (chunk <= 64) {
    const LaunchShape narrow{.grid = shape.grid, .block = dim3(32)};
    launch(op, reduce_rows_kernel<32, M, T>, narrow, stream, g, monoid, x.as<T>(), chunk, partial);
  } else {
    launch(op, reduce_rows_kernel<kThreads, M, T>, shape, stream, g, monoid, x.as<T>(), chunk, partial);
  }
  const auto finish = [&]<int kLanes>() {
    const std::int64_t blocks = ceil_div(g.outputs * kLanes, kThreads);
    launch(op, finish_reduction_kernel<kLanes, M, R>,
           {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kThreads)}, stream, g, monoid, partial, splits,
           out.as<R>(), accumulate);
  };
  if (splits > 4) {
    finish.template operator()<kWarp>();
  } else {
    finish.template operator()<1>();
  }
  backend.release(partial, bytes, stream.device.index);
}

}  // namespace trinix::cuda
