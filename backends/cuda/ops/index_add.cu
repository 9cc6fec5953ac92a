#include <trinix/backends/cuda/index_check.cuh>
#include <trinix/backends/cuda/radix_sort.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/index.h>
#include <trinix/core/ops/gather.h>
#include <trinix/core/ops/index_select.h>

// IndexAdd and ScatterAdd without atomics on sums, whose order would vary: the positions of the source are sorted by
// destination, stably, so that each destination's sources are neighbours in their own order. The sorted list is cut
// into chunks of one length, whatever the destinations, so a destination that occurs a thousand times is summed by many
// threads. A chunk adds the destinations that begin and end within it, and leaves the sum of a first and of a last one
// that reach beyond it to a second kernel, which joins them in order. Every count is known on the host beforehand.

namespace trinix::cuda {

namespace {

/// Sorted sources per chunk.
constexpr int kChunk = 32;
constexpr int kThreads = 256;

/// Sums of 16-bit types are in f32; those of integers wrap.
template <class T>
using SumOf = typename std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>, compute_of<T>>::type;

/// Where the sorted sources lead, and how slices of them lie in memory. Offsets are in elements.
struct SortedSources {
  const std::uint32_t* destinations;  ///< ascending
  const std::uint32_t* positions;
  std::int64_t count;
  std::uint32_t size;           ///< larger destinations are out of range
  DeviceWalk<1> out_slices;     ///< by destination
  DeviceWalk<1> source_slices;  ///< by position
  DeviceWalk<2> within;         ///< by vector: 0 out, 1 source
  std::int64_t vectors;         ///< of a slice
  std::int64_t chunks;
};

template <int kWidth, class T>
struct SliceSum {
  using S = SumOf<T>;
  static constexpr int kBytes = kWidth * static_cast<int>(sizeof(S));
  alignas(kBytes < 16 ? kBytes : 16) S at[kWidth] = {};

  __device__ void add(const Vector<T, kWidth>& v) {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) at[k] += static_cast<S>(widen(v.at[k]));
  }
  __device__ void add(const SliceSum& other) {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) at[k] += other.at[k];
  }
  __device__ void add_to(T* out) const {
    Vector<T, kWidth> v = load_vector<kWidth>(out);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v.at[k] = narrow_to<T>(static_cast<S>(widen(v.at[k])) + at[k]);
    store_vector(out, v);
  }
};

__device__ inline std::int64_t offset_of(const DeviceWalk<1>& walk, std::int64_t i) {
  std::int64_t at[1];
  walk.offsets(i, at);
  return at[0];
}

/// One thread per chunk and vector of a slice; neighbours take neighbouring vectors. `open` holds two sums per chunk:
/// of the destination that began before it, and of the one that goes on behind it.
template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads)
    sum_chunks_kernel(SortedSources s, const T* source, T* out, SliceSum<kWidth, T>* open) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t chunk = thread / s.vectors;
  if (chunk >= s.chunks) return;
  const std::int64_t vector = thread - chunk * s.vectors;
  std::int64_t within[2];
  s.within.offsets(vector, within);
  const std::int64_t begin = chunk * kChunk;
  const std::int64_t end = begin + kChunk < s.count ? begin + kChunk : s.count;
  SliceSum<kWidth, T> sum;
  bool began_before = begin > 0 && s.destinations[begin - 1] == s.destinations[begin];
#pragma unroll 4
  for (std::int64_t i = begin; i < end; ++i) {
    const std::uint32_t to = s.destinations[i];
    sum.add(load_vector<kWidth>(source + offset_of(s.source_slices, s.positions[i]) + within[1]));
    const bool more = i + 1 < s.count && s.destinations[i + 1] == to;
    if (more && i + 1 < end) continue;
    if (began_before) {
      open[2 * chunk * s.vectors + vector] = sum;
    } else if (more) {
      open[(2 * chunk + 1) * s.vectors + vector] = sum;
    } else if (to < s.size) {
      sum.add_to(out + offset_of(s.out_slices, to) + within[0]);
    }
    sum = {};
    began_before = false;
  }
}

/// One thread per chunk and vector again: those in whose chunk a destination begins that goes on behind it.
template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads)
    join_chunks_kernel(SortedSources s, T* out, const SliceSum<kWidth, T>* open) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t chunk = thread / s.vectors;
  if (chunk + 1 >= s.chunks) return;
  const std::int64_t vector = thread - chunk * s.vectors;
  const std::int64_t begin = chunk * kChunk;
  const std::uint32_t to = s.destinations[begin + kChunk - 1];
  if (to >= s.size || s.destinations[begin + kChunk] != to) return;
  if (begin > 0 && s.destinations[begin - 1] == to) return;  // it began before this chunk
  SliceSum<kWidth, T> sum = open[(2 * chunk + 1) * s.vectors + vector];
  for (std::int64_t c = chunk + 1; c < s.chunks && s.destinations[c * kChunk] == to; ++c) {
    sum.add(open[2 * c * s.vectors + vector]);
  }
  std::int64_t within[2];
  s.within.offsets(vector, within);
  sum.add_to(out + offset_of(s.out_slices, to) + within[0]);
}

/// Adds slices of `source` to slices of `out`, both given without the dim that they are slices of.
template <int kWidth, class T>
void add_sorted(const char* op, const SortedSources& s, const View& source, const View& out, const Stream& stream) {
  const Scratch open(static_cast<std::size_t>(2 * s.chunks * s.vectors) * sizeof(SliceSum<kWidth, T>), stream);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(s.chunks * s.vectors, kThreads))),
                          .block = dim3(kThreads)};
  auto* const sums = open.as<SliceSum<kWidth, T>>();
  launch(op, sum_chunks_kernel<kWidth, T>, shape, stream, s, source.as<T>(), out.as<T>(), sums);
  launch(op, join_chunks_kernel<kWidth, T>, shape, stream, s, out.as<T>(), sums);
}

/// Fills in how a slice is walked, and chooses the width.
template <class T>
void add_slices(const char* op, SortedSources s, const View& out_slice, const View& source_slice, bool wide_steps,
                const View& source, const View& out, const Stream& stream) {
  const std::array<const View*, 2> slices{&out_slice, &source_slice};
  const auto walk = make_walk<2>(slices);
  const auto queue = [&]<int kWidth>() {
    s.within = internal::to_device(walk, kWidth);
    s.vectors = walk.inner() / kWidth * walk.rows();
    add_sorted<kWidth, T>(op, s, source, out, stream);
  };
  constexpr int kWide = kPerAccess<T>;
  if (wide_steps && walk.inner_stride(1) == 1 && internal::fits_vectors<2>(walk, slices, kWide)) {
    queue.template operator()<kWide>();
  } else {
    queue.template operator()<1>();
  }
}

void check_countable(const char* op, std::int64_t n) {
  if (n < (std::int64_t{1} << 32) - 1) return;
  trinix::detail::fail<ShapeError>(op, "{} elements are more than a CUDA kernel here can sort; split the tensors", n);
}

/// Slices that lie `stride` apart.
DeviceWalk<1> steps_of(std::int64_t stride) {
  DeviceWalk<1> walk;
  walk.strides[0][0] = stride;
  return walk;
}

/// What lies out of range is led to `size`, behind everything.
template <class Index>
__global__ void slice_keys_kernel(const Index* index, std::int64_t n, std::int64_t step, std::int64_t size,
                                  std::uint32_t* destinations, std::uint32_t* positions) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const std::int64_t to = index[i * step];
  destinations[i] = static_cast<std::uint32_t>(inside(to, size) ? to : size);
  positions[i] = static_cast<std::uint32_t>(i);
}

SortedSources sorted_sources(const SortedPairs<std::uint32_t>& pairs, std::int64_t size) {
  SortedSources s{};
  s.destinations = pairs.keys();
  s.positions = pairs.numbers();
  s.count = pairs.count();
  s.size = static_cast<std::uint32_t>(size);
  s.chunks = ceil_div(s.count, kChunk);
  return s;
}

void index_add_forward(const IndexAdd::Forward& args, const Stream& stream) {
  if (args.source.numel() == 0) return;
  const std::int64_t n = args.index.size(0);
  const std::int64_t size = args.out.size(args.dim);
  check_countable("index_add", std::max(n, size));
  SortedPairs<std::uint32_t> pairs(n, stream);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(n, kThreads))), .block = dim3(kThreads)};
  dispatch_index(args.index, [&]<class Index>() {
    launch("index_add", slice_keys_kernel<Index>, shape, stream, args.index.as<Index>(), n, args.index.stride(0), size,
           pairs.keys(), pairs.numbers());
  });
  pairs.sort(bits_for(static_cast<std::uint64_t>(size) + 1), stream);
  SortedSources s = sorted_sources(pairs, size);
  const std::int64_t out_step = args.out.stride(args.dim);
  const std::int64_t source_step = args.source.stride(args.dim);
  s.out_slices = steps_of(out_step);
  s.source_slices = steps_of(source_step);
  const View out = without_dim(args.out, args.dim);
  const View source = without_dim(args.source, args.dim);
  check_countable("index_add", out.numel());
  dispatch_arithmetic(args.out.dtype, "index_add", [&]<class T>() {
    const bool wide_steps = out_step % kPerAccess<T> == 0 && source_step % kPerAccess<T> == 0;
    add_slices<T>("index_add", s, out, source, wide_steps, args.source, args.out, stream);
  });
}

/// View 0 of the walk is the index, view 1 the row-major number of a destination, of which one step along the scattered
/// dim is `jump`.
template <class Index>
__global__ void element_keys_kernel(DeviceWalk<2> walk, const Index* index, std::int64_t n, std::int64_t size,
                                    std::int64_t jump, std::uint32_t out_of_range, std::uint32_t* destinations,
                                    std::uint32_t* positions) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  std::int64_t at[2];
  walk.offsets(i, at);
  const std::int64_t to = index[at[0]];
  destinations[i] = inside(to, size) ? static_cast<std::uint32_t>(at[1] + to * jump) : out_of_range;
  positions[i] = static_cast<std::uint32_t>(i);
}

/// As IndexAdd, with single elements for slices.
void scatter_add_forward(const ScatterAdd::Forward& args, const Stream& stream) {
  const std::int64_t n = args.index.numel();
  if (n == 0 || args.out.numel() == 0) return;
  check_countable("scatter_add", std::max(n, args.out.numel()));
  View numbers = args.out;  // as if out were row-major
  numbers.strides = contiguous_strides(args.out.shape);
  const std::int64_t jump = numbers.strides[args.dim];
  numbers.shape = args.index.shape;
  numbers.strides[args.dim] = 0;
  const auto walk = make_walk<2>({&args.index, &numbers});
  const auto out_of_range = static_cast<std::uint32_t>(args.out.numel());
  SortedPairs<std::uint32_t> pairs(n, stream);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(n, kThreads))), .block = dim3(kThreads)};
  dispatch_index(args.index, [&]<class Index>() {
    launch("scatter_add", element_keys_kernel<Index>, shape, stream, internal::to_device(walk, 1),
           args.index.as<Index>(), n, args.out.size(args.dim), jump, out_of_range, pairs.keys(), pairs.numbers());
  });
  pairs.sort(bits_for(std::uint64_t{out_of_range} + 1), stream);
  SortedSources s = sorted_sources(pairs, args.out.numel());
  s.out_slices = internal::to_device(make_walk<1>({&args.out}), 1);
  s.source_slices = internal::to_device(make_walk<1>({&args.source}), 1);
  dispatch_arithmetic(args.out.dtype, "scatter_add", [&]<class T>() {
    add_slices<T>("scatter_add", s, View{}, View{}, false, args.source, args.out, stream);
  });
}

}  // namespace

void register_index_add() {
  register_kernel<IndexAdd>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, index_add_forward, nullptr});
  register_kernel<ScatterAdd>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, scatter_add_forward, nullptr});
}

}  // namespace trinix::cuda
