#include <trinix/backends/cpu/random_bits.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/dropout.h>

namespace trinix::cpu {

namespace {

/// Both directions are the same masking: from x to y, or from dy to dx.
template <bool kAccumulate, class T>
void masked_piece(T* to, const T* from, const std::uint32_t* bits, std::int64_t n, std::int64_t to_step,
                  std::int64_t from_step, std::uint32_t threshold, compute_t<T> scale) {
  using C = compute_t<T>;
  const auto value = [&](std::int64_t i, std::int64_t from_at, std::int64_t to_at) {
    const C scaled = static_cast<C>(from[from_at]) * scale;
    const C kept = dropout_keeps(bits[i], threshold) ? scaled : C(0);
    return T(kAccumulate ? static_cast<C>(to[to_at]) + kept : kept);
  };
  if (to_step == 1 && from_step == 1) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) to[i] = value(i, i, i);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_step] = value(i, i * from_step, i * to_step);
  }
}

template <bool kAccumulate>
void mask_all(const View& from, const View& to, double p, const RandomState& state) {
  const Walk<2> w = make_walk<2>({&to, &from});
  const std::uint32_t threshold = dropout_threshold(p);
  dispatch_floating(to.dtype, "dropout", [&]<class T>() {
    const auto scale = static_cast<compute_t<T>>(dropout_scale(p));
    for_each_random_tile(to.numel(), [&](std::int64_t first, std::int64_t count) {
      alignas(64) std::uint32_t bits[kRandomTile];
      random_bits(state, first, count, bits);
      for_each_piece(w, first, count, [&](const auto& offsets, std::int64_t at, std::int64_t n) {
        masked_piece<kAccumulate>(to.as<T>() + offsets[0], from.as<T>() + offsets[1], bits + at, n, w.inner_stride(0),
                                  w.inner_stride(1), threshold, scale);
      });
    });
  });
}

void dropout_forward(const Dropout::Forward& args, const Stream&) {
  mask_all<false>(args.x, args.y, args.p, args.state);
}

void dropout_backward(const Dropout::Backward& args, const Stream&) {
  if (args.accumulate) {
    mask_all<true>(args.dy, args.dx, args.p, args.state);
  } else {
    mask_all<false>(args.dy, args.dx, args.p, args.state);
  }
}

}  // namespace

void register_dropout() {
  register_kernel<Dropout>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, dropout_forward, dropout_backward});
}

}  // namespace trinix::cpu
