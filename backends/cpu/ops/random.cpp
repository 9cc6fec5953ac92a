#include <trinix/backends/cpu/random_bits.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/random.h>
#include <trinix/core/random_math.h>

namespace trinix::cpu {

namespace {

template <class T>
constexpr int significand_bits() {
  if constexpr (std::is_same_v<T, bfloat16>) return 8;
  if constexpr (std::is_same_v<T, float16>) return 11;
  return 24;
}

template <class T>
void uniform_values(const Random::Forward& args, const std::uint32_t* bits, T* values, std::int64_t n) {
  using C = compute_t<T>;
  const C low = static_cast<C>(args.low);
  const C span = static_cast<C>(args.high - args.low);
  const C high = static_cast<C>(T(static_cast<C>(args.high)));
  const T lowest = T(low);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float u = uniform_with_bits<significand_bits<T>()>(bits[i]);
    const T value = T(scale_and_shift(static_cast<C>(u), span, low));
    values[i] = static_cast<C>(value) < high ? value : lowest;
  }
}

/// `n` is even. The pairs are made in f32 first: written straight to a 16-bit type they would not vectorise.
template <class T>
void normal_values(const Random::Forward& args, const std::uint32_t* bits, T* values, std::int64_t n) {
  using C = compute_t<T>;
  const C mean = static_cast<C>(args.low);
  const C stddev = static_cast<C>(args.high);
  alignas(64) float z[kRandomTile];
#pragma omp simd
  for (std::int64_t k = 0; k < n / 2; ++k) {
    const NormalPair pair = normal_from_bits(bits[2 * k], bits[2 * k + 1]);
    z[2 * k] = pair.first;
    z[2 * k + 1] = pair.second;
  }
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) values[i] = T(scale_and_shift(static_cast<C>(z[i]), stddev, mean));
}

template <class T>
void store(const Walk<1>& w, T* out, std::int64_t first, std::int64_t count, const T* values) {
  const std::int64_t step = w.inner_stride(0);
  for_each_piece(w, first, count, [&](const auto& offsets, std::int64_t at, std::int64_t n) {
    T* to = out + offsets[0];
    for (std::int64_t i = 0; i < n; ++i) to[i * step] = values[at + i];
  });
}

template <class T>
void fill_floating(const Random::Forward& args, const Walk<1>& w) {
  for_each_random_tile(args.out.numel(), [&](std::int64_t first, std::int64_t count) {
    alignas(64) std::uint32_t bits[kRandomTile];
    alignas(64) T values[kRandomTile];
    const std::int64_t even = count + count % 2;  // a tile holds an even number, so a pair never straddles two
    random_bits(args.state, first, even, bits);
    if (args.fn == RandomFn::normal) {
      normal_values(args, bits, values, even);
    } else {
      uniform_values(args, bits, values, count);
    }
    store(w, args.out.as<T>(), first, count, values);
  });
}

template <class T>
void fill_integers(const Random::Forward& args, const Walk<1>& w) {
  for_each_random_tile(args.out.numel(), [&](std::int64_t first, std::int64_t count) {
    alignas(64) std::uint32_t low[kRandomTile];
    alignas(64) std::uint32_t high[kRandomTile];
    T values[kRandomTile];
    random_bits(args.state, first, count, low, /*counter_high=*/0);
    random_bits(args.state, first, count, high, /*counter_high=*/1);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint64_t word = std::uint64_t{high[i]} << 32 | low[i];
      values[i] = static_cast<T>(static_cast<std::uint64_t>(args.integer_low) + integer_from_bits(word, args.range));
    }
    store(w, args.out.as<T>(), first, count, values);
  });
}

void random_forward(const Random::Forward& args, const Stream&) {
  const Walk<1> w = make_walk<1>({&args.out});
  if (args.fn == RandomFn::integer) {
    dispatch_integral(args.out.dtype, "random", [&]<class T>() { fill_integers<T>(args, w); });
  } else {
    dispatch_floating(args.out.dtype, "random", [&]<class T>() { fill_floating<T>(args, w); });
  }
}

}  // namespace

void register_random() {
  register_kernel<Random>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, random_forward, nullptr});
}

}  // namespace trinix::cpu
