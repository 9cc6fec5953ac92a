// Random. One Philox call serves four elements; what lies contiguous is written in accesses of 16 bytes. Floor: one
// write of the tensor for f32 and wider; below that the arithmetic of Philox, some 100 integer instructions per call,
// takes as long as the memory. Every formula is that of core/random_math.h, so the values are the CPU's.
#include <trinix/backends/cuda/device/random.cuh>
#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/random.h>
#include <trinix/core/random_math.h>

namespace trinix::cuda {

namespace {

template <class T>
constexpr int significand_bits() {
  if constexpr (std::is_same_v<T, bfloat16>) return 8;
  if constexpr (std::is_same_v<T, float16>) return 11;
  return 24;
}

template <class T>
struct Uniform {
  using C = compute_t<T>;
  C low;
  C span;
  C high;  ///< as rounded to T
  __device__ void operator()(const RandomState& state, std::uint64_t block, T* values) const {
    const PhiloxBlock bits = philox(state.seed, state.offset + block);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float u = uniform_with_bits<significand_bits<T>()>(bits.x[i]);
      const T value = narrow_to<T>(scale_and_shift(static_cast<C>(u), span, low));
      values[i] = widen(value) < high ? value : narrow_to<T>(low);
    }
  }
};

template <class T>
struct Normal {
  using C = compute_t<T>;
  C mean;
  C stddev;
  __device__ void operator()(const RandomState& state, std::uint64_t block, T* values) const {
    const PhiloxBlock bits = philox(state.seed, state.offset + block);
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const NormalPair z = normal_from_bits(bits.x[i], bits.x[i + 1]);
      values[i] = narrow_to<T>(scale_and_shift(static_cast<C>(z.first), stddev, mean));
      values[i + 1] = narrow_to<T>(scale_and_shift(static_cast<C>(z.second), stddev, mean));
    }
  }
};

template <class T>
struct Integer {
  std::uint64_t low;
  std::uint64_t range;
  __device__ void operator()(const RandomState& state, std::uint64_t block, T* values) const {
    const RandomWords words = random_words64(state, block);
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = static_cast<T>(low + integer_from_bits(words.x[i], range));
  }
};

/// Elements per thread: whole Philox blocks and whole accesses.
template <class T>
inline constexpr int kDrawn = std::max(4, kPerAccess<T>);

template <class T, class Draw>
__global__ void __launch_bounds__(kMapThreads)
    random_kernel(DeviceWalk<1> walk, std::int64_t count, bool dense, RandomState state, Draw draw, T* out) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x) * kDrawn<T>;
  if (first >= count) return;
  state.offset = random_offset(state);
  T values[kDrawn<T>];
#pragma unroll
  for (int b = 0; b < kDrawn<T>; b += 4) draw(state, static_cast<std::uint64_t>(first + b) / 4, values + b);
  if (dense && first + kDrawn<T> <= count) {
#pragma unroll
    for (int k = 0; k < kDrawn<T>; k += kPerAccess<T>) {
      Vector<T, kPerAccess<T>> v;
#pragma unroll
      for (int j = 0; j < kPerAccess<T>; ++j) v.at[j] = values[k + j];
      store_vector(out + first + k, v);
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < kDrawn<T>; ++k) {
    if (first + k >= count) return;
    std::int64_t at[1];
    walk.offsets(first + k, at);
    out[at[0]] = values[k];
  }
}

template <class T, class Draw>
void fill(const Random::Forward& args, const Stream& stream, Draw draw) {
  const auto w = make_walk<1>({&args.out});
  const std::int64_t count = args.out.numel();
  internal::check_indexable("random", w.rank, count);
  const bool dense = w.rank == 1 && w.inner_stride(0) == 1 && reinterpret_cast<std::uintptr_t>(args.out.data) % 16 == 0;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(count, kMapThreads * kDrawn<T>))),
                          .block = dim3(kMapThreads)};
  launch("random", random_kernel<T, Draw>, shape, stream, internal::to_device(w, 1), count, dense, args.state, draw,
         args.out.as<T>());
}

void random_forward(const Random::Forward& args, const Stream& stream) {
  if (args.fn == RandomFn::integer) {
    return dispatch_integral(args.out.dtype, "random", [&]<class T>() {
      fill<T>(args, stream, Integer<T>{static_cast<std::uint64_t>(args.integer_low), args.range});
    });
  }
  dispatch_floating(args.out.dtype, "random", [&]<class T>() {
    using C = compute_t<T>;
    const C low = static_cast<C>(args.low);
    if (args.fn == RandomFn::normal) return fill<T>(args, stream, Normal<T>{low, static_cast<C>(args.high)});
    const C high = static_cast<C>(T(static_cast<C>(args.high)));
    fill<T>(args, stream, Uniform<T>{low, static_cast<C>(args.high - args.low), high});
  });
}

}  // namespace

void register_random() {
  register_kernel<Random>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, random_forward, nullptr});
}

}  // namespace trinix::cuda
