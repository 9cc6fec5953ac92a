#include <type_traits>

#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/cuda/scratch.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/index.h>
#include <trinix/core/ops/scan.h>

// A long line is cut into chunks, so that few lines still fill the card: one kernel sums each chunk, a second one scans
// each chunk on top of the sums of those before it. Floor: x is read twice where there is more than one chunk per line,
// else once; out is written once.

namespace trinix::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 8;
constexpr std::int64_t kTile = kThreads * kPerThread;

/// Sums of floating point are in f64, as on the CPU; of the rest in i64, which wraps.
template <class T>
using SumOf = std::conditional_t<std::is_integral_v<T>, std::uint64_t, double>;

/// Within a tile, whose sums are short, f32 is enough for all but f64.
template <class T>
using TileSumOf = std::conditional_t<std::is_integral_v<T>, std::uint64_t, compute_t<T>>;

/// Views of one shape without the scanned dim: 0 x, 1 out; and their steps along it. A reversed line is walked from its
/// end.
struct ScanGeometry {
  DeviceWalk<2> lines;
  std::int64_t first[2];
  std::int64_t steps[2];
  std::int64_t length;
  std::int64_t chunk;   ///< elements
  std::int64_t chunks;  ///< per line
  std::int64_t count;   ///< of lines
};

template <class T>
__device__ SumOf<T> to_sum(T v) {
  return static_cast<SumOf<T>>(widen(v));
}
template <class To, class S>
__device__ To from_sum(S v) {
  if constexpr (std::is_same_v<To, std::int64_t>) {
    return static_cast<std::int64_t>(v);
  } else {
    return narrow_to<To>(v);
  }
}

/// Sum over the values of the threads before this one; `total` receives that of all.
template <class S>
__device__ S sum_before(S value, S* shared, S& total) {
  S inclusive = value;
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const S other = __shfl_up_sync(0xffffffffU, inclusive, step);
    if (lane >= step) inclusive += other;
  }
  if (lane == kWarp - 1) shared[threadIdx.x / kWarp] = inclusive;
  const S previous = __shfl_up_sync(0xffffffffU, inclusive, 1);
  __syncthreads();
  S before = 0;
  total = 0;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) {
    if (w == static_cast<int>(threadIdx.x) / kWarp) before = total;
    total += shared[w];
  }
  __syncthreads();
  return lane == 0 ? before : before + previous;
}

/// One block per chunk.
template <class T>
__global__ void __launch_bounds__(kThreads) sum_chunks_kernel(ScanGeometry g, const T* x, SumOf<T>* sums) {
  using S = SumOf<T>;
  __shared__ S shared[kThreads / kWarp];
  const std::int64_t line = blockIdx.x / g.chunks;
  const std::int64_t chunk = blockIdx.x - line * g.chunks;
  std::int64_t at[2];
  g.lines.offsets(line, at);
  const T* const from = x + at[0] + g.first[0];
  const std::int64_t begin = chunk * g.chunk;
  const std::int64_t end = begin + g.chunk < g.length ? begin + g.chunk : g.length;
  S sum = 0;
#pragma unroll 4
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) sum += to_sum(from[i * g.steps[0]]);
  S total;
  sum_before(sum, shared, total);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

/// One block per chunk; a tile at a time, read and written in rows, and scanned by threads that own kPerThread
/// neighbours each. `sums` is null where a line is one chunk.
template <class To, class T>
__global__ void __launch_bounds__(kThreads) scan_kernel(ScanGeometry g, const T* x, const SumOf<T>* sums, To* out) {
  using S = SumOf<T>;
  using L = TileSumOf<T>;
  __shared__ S shared[kThreads / kWarp];
  __shared__ L shared_local[kThreads / kWarp];
  __shared__ L tile[kTile + kTile / kPerThread];  // a gap after each thread's elements, against bank conflicts
  const auto slot = [](int i) { return i + i / kPerThread; };
  const std::int64_t line = blockIdx.x / g.chunks;
  const std::int64_t chunk = blockIdx.x - line * g.chunks;
  std::int64_t at[2];
  g.lines.offsets(line, at);
  const T* const from = x + at[0] + g.first[0];
  To* const to = out + at[1] + g.first[1];
  S before = 0;
  if (sums != nullptr) {
    for (std::int64_t c = threadIdx.x; c < chunk; c += kThreads) before += sums[line * g.chunks + c];
    S total;
    sum_before(before, shared, total);
    before = total;
  }
  const std::int64_t end = (chunk + 1) * g.chunk < g.length ? (chunk + 1) * g.chunk : g.length;
  for (std::int64_t base = chunk * g.chunk; base < end; base += kTile) {
    const int count = end - base < kTile ? static_cast<int>(end - base) : static_cast<int>(kTile);
#pragma unroll
    for (int k = 0; k < kPerThread; ++k) {
      const int i = k * kThreads + static_cast<int>(threadIdx.x);
      tile[slot(i)] = i < count ? static_cast<L>(widen(from[(base + i) * g.steps[0]])) : L(0);
    }
    __syncthreads();
    const int own = static_cast<int>(threadIdx.x) * kPerThread;
    L running[kPerThread];
    L sum = 0;
#pragma unroll
    for (int k = 0; k < kPerThread; ++k) running[k] = sum += tile[slot(own + k)];
    L total;
    const L base_sum = static_cast<L>(before) + sum_before(sum, shared_local, total);
#pragma unroll
    for (int k = 0; k < kPerThread; ++k) tile[slot(own + k)] = base_sum + running[k];
    before += static_cast<S>(total);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kPerThread; ++k) {
      const int i = k * kThreads + static_cast<int>(threadIdx.x);
      if (i < count) to[(base + i) * g.steps[1]] = from_sum<To>(tile[slot(i)]);
    }
    __syncthreads();
  }
}

/// One thread per line, for lines that lie side by side: neighbours read neighbours.
template <class To, class T>
__global__ void __launch_bounds__(kThreads) scan_columns_kernel(ScanGeometry g, const T* x, To* out) {
  const std::int64_t line = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (line >= g.count) return;
  std::int64_t at[2];
  g.lines.offsets(line, at);
  const T* from = x + at[0] + g.first[0];
  To* to = out + at[1] + g.first[1];
  SumOf<T> sum = 0;
#pragma unroll 8
  for (std::int64_t i = 0; i < g.length; ++i) {
    sum += to_sum(from[i * g.steps[0]]);
    to[i * g.steps[1]] = from_sum<To>(sum);
  }
}

template <class To, class T>
void queue_scan(ScanGeometry g, bool columns, const Scan::Forward& args, const Stream& stream) {
  if (columns) {
    const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(g.count, kThreads))), .block = dim3(kThreads)};
    return launch("scan", scan_columns_kernel<To, T>, shape, stream, g, args.x.as<T>(), args.out.as<To>());
  }
  // Enough blocks to fill the card, each with several tiles.
  constexpr std::int64_t kWanted = 132 * 8;
  const std::int64_t pieces = std::clamp<std::int64_t>(kWanted / g.count, 1, ceil_div(g.length, 4 * kTile));
  g.chunk = ceil_div(ceil_div(g.length, pieces), kTile) * kTile;
  g.chunks = ceil_div(g.length, g.chunk);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(g.count * g.chunks)), .block = dim3(kThreads)};
  if (g.chunks == 1) {
    return launch("scan", scan_kernel<To, T>, shape, stream, g, args.x.as<T>(), nullptr, args.out.as<To>());
  }
  const Scratch sums(static_cast<std::size_t>(g.count * g.chunks) * sizeof(SumOf<T>), stream);
  launch("scan", sum_chunks_kernel<T>, shape, stream, g, args.x.as<T>(), sums.as<SumOf<T>>());
  launch("scan", scan_kernel<To, T>, shape, stream, g, args.x.as<T>(), sums.as<SumOf<T>>(), args.out.as<To>());
}

void scan_forward(const Scan::Forward& args, const Stream& stream) {
  if (args.x.numel() == 0) return;
  const View x = without_dim(args.x, args.dim);
  const View out = without_dim(args.out, args.dim);
  const auto lines = make_walk<2>({&x, &out});
  ScanGeometry g{};
  g.lines = internal::to_device(lines, 1);
  g.length = args.x.size(args.dim);
  g.count = x.numel();
  if (g.count >= (std::int64_t{1} << 31)) {
    trinix::detail::fail<ShapeError>("scan", "{} lines are more than a CUDA kernel here can index; split the tensor",
                                     g.count);
  }
  int v = 0;
  for (const View* view : {&args.x, &args.out}) {
    const std::int64_t step = view->stride(args.dim);
    g.first[v] = args.reverse ? (g.length - 1) * step : 0;
    g.steps[v] = args.reverse ? -step : step;
    ++v;
  }
  const bool columns = args.x.stride(args.dim) != 1 && lines.inner_stride(0) == 1 && lines.inner() >= kWarp;
  dispatch_all(args.x.dtype, "scan", [&]<class T>() {
    using To = std::conditional_t<std::is_integral_v<T>, std::int64_t, T>;
    queue_scan<To, T>(g, columns || g.length < kWarp, args, stream);
  });
}

}  // namespace

void register_scan() {
  register_kernel<Scan>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, scan_forward, nullptr});
}

}  // namespace trinix::cuda
