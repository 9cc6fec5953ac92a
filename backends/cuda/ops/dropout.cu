// Dropout. One Philox call serves four elements; what lies contiguous is read and written in accesses of 16 bytes.
// Floor: one read and one write of the tensor (another read to accumulate); the mask is never stored.
#include <trinix/backends/cuda/device/random.cuh>
#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/dropout.h>

namespace trinix::cuda {

namespace {

/// Elements per thread: whole Philox blocks and whole accesses.
template <class T>
inline constexpr int kMasked = std::max(4, kPerAccess<T>);

template <class T>
struct Mask {
  RandomState state;
  std::uint32_t threshold;
  compute_t<T> scale;

  /// Elements first .. first + 3 of `bits`.
  __device__ PhiloxBlock bits(std::int64_t first) const {
    return philox(state.seed, random_offset(state) + static_cast<std::uint64_t>(first) / 4);
  }
  __device__ T apply(T from, T old, std::uint32_t bits, bool accumulate) const {
    using C = compute_t<T>;
    const C kept = dropout_keeps(bits, threshold) ? widen(from) * scale : C(0);
    return narrow_to<T>(accumulate ? widen(old) + kept : kept);
  }
};

/// Both directions are the same masking: from x to y, or from dy to dx. View 0 of the walk is `to`.
template <bool kAccumulate, class T>
__global__ void __launch_bounds__(kMapThreads)
    dropout_kernel(DeviceWalk<2> walk, std::int64_t count, bool dense, Mask<T> mask, const T* from, T* to) {
  constexpr int kWide = kPerAccess<T>;
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x) * kMasked<T>;
  if (first >= count) return;
  std::uint32_t bits[kMasked<T>];
#pragma unroll
  for (int b = 0; b < kMasked<T>; b += 4) {
    const PhiloxBlock block = mask.bits(first + b);
#pragma unroll
    for (int i = 0; i < 4; ++i) bits[b + i] = block.x[i];
  }
  if (dense && first + kMasked<T> <= count) {
#pragma unroll
    for (int k = 0; k < kMasked<T>; k += kWide) {
      auto v = load_vector<kWide>(from + first + k);
      Vector<T, kWide> old;
      if constexpr (kAccumulate) old = load_vector<kWide>(to + first + k);
#pragma unroll
      for (int j = 0; j < kWide; ++j) {
        v.at[j] = mask.apply(v.at[j], kAccumulate ? old.at[j] : T(), bits[k + j], kAccumulate);
      }
      store_vector(to + first + k, v);
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < kMasked<T>; ++k) {
    if (first + k >= count) return;
    std::int64_t at[2];
    walk.offsets(first + k, at);
    to[at[0]] = mask.apply(from[at[1]], kAccumulate ? to[at[0]] : T(), bits[k], kAccumulate);
  }
}

void mask_all(const View& from, const View& to, double p, const RandomState& state, bool accumulate,
              const Stream& stream) {
  const auto w = make_walk<2>({&to, &from});
  const std::int64_t count = to.numel();
  internal::check_indexable("dropout", w.rank, count);
  bool dense = w.rank == 1;
  for (const View* v : {&to, &from}) dense = dense && reinterpret_cast<std::uintptr_t>(v->data) % 16 == 0;
  dense = dense && w.inner_stride(0) == 1 && w.inner_stride(1) == 1;
  dispatch_floating(to.dtype, "dropout", [&]<class T>() {
    const Mask<T> mask{state, dropout_threshold(p), static_cast<compute_t<T>>(dropout_scale(p))};
    const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(count, kMapThreads * kMasked<T>))),
                            .block = dim3(kMapThreads)};
    const auto run = [&]<bool kAccumulate>() {
      launch("dropout", dropout_kernel<kAccumulate, T>, shape, stream, internal::to_device(w, 1), count, dense, mask,
             from.as<T>(), to.as<T>());
    };
    accumulate ? run.template operator()<true>() : run.template operator()<false>();
  });
}

void dropout_forward(const Dropout::Forward& args, const Stream& stream) {
  mask_all(args.x, args.y, args.p, args.state, false, stream);
}

void dropout_backward(const Dropout::Backward& args, const Stream& stream) {
  mask_all(args.dy, args.dx, args.p, args.state, args.accumulate, stream);
}

}  // namespace

void register_dropout() {
  register_kernel<Dropout>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, dropout_forward, dropout_backward});
}

}  // namespace trinix::cuda
