#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include <trinix/core/half.h>

/// @file
/// The few register operations that packing and the register tiles need, on GCC/Clang vector types of the widest size
/// of the target. Private to translation units that are compiled with the kernel flags of this folder.

namespace trinix::cpu::internal {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
struct Simd {
  static constexpr int width = kVectorBytes / static_cast<int>(sizeof(T));
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename Simd<T>::type;
template <class T>
inline constexpr int kWidth = Simd<T>::width;

#define TRINIX_INLINE inline __attribute__((always_inline))

/// Calls f(integral_constant 0), ..., f(integral_constant N-1), unrolled before any optimisation runs, so that arrays
/// of vectors which are indexed by the argument become registers.
template <int N, class F>
TRINIX_INLINE void unrolled(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, I>{}), ...);
  }
  (std::make_integer_sequence<int, N>{});
}

/// Unaligned load and store.
template <class T>
TRINIX_INLINE Vec<T> load(const T* from) {
  Vec<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class T>
TRINIX_INLINE void store(T* to, Vec<T> v) {
  std::memcpy(to, &v, sizeof v);
}

/// All lanes equal. Written as x - 0, which is exact for every x, and which compilers turn into one instruction.
template <class T>
TRINIX_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

/// Loads kWidth<T> elements of a storage type and widens them to T.
TRINIX_INLINE Vec<float> load_as(const float* from, float) { return load(from); }
TRINIX_INLINE Vec<double> load_as(const double* from, double) { return load(from); }
TRINIX_INLINE Vec<float> load_as(const bfloat16* from, float) {
  typedef std::uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
  typedef std::uint32_t Wide __attribute__((vector_size(kVectorBytes)));
  Narrow narrow;
  std::memcpy(&narrow, from, sizeof narrow);
  const Wide wide = __builtin_convertvector(narrow, Wide) << 16;
  return std::bit_cast<Vec<float>>(wide);
}
TRINIX_INLINE Vec<float> load_as(const float16* from, float) {
#if defined(__AVX512F__)
  return std::bit_cast<Vec<float>>(
      _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__F16C__) && defined(__AVX__)
  return std::bit_cast<Vec<float>>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
  float wide[kWidth<float>];
  for (int i = 0; i < kWidth<float>; ++i) wide[i] = from[i];
  return load(wide);
#endif
}

/// One step of a transpose: exchanges the lanes of `a` whose index has bit D set with those of `b` that have it clear.
template <class T, int D, bool High>
TRINIX_INLINE Vec<T> exchange(Vec<T> a, Vec<T> b) {
  constexpr auto lane = [](int l) {
    const int w = kWidth<T>;
    if (High) return (l & D) != 0 ? w + l : l + D;
    return (l & D) != 0 ? w + l - D : l;
  };
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return __builtin_shufflevector(a, b, lane(I)...);
  }
  (std::make_integer_sequence<int, kWidth<T>>{});
}

/// Transposes a square of kWidth<T> vectors in registers (log2 of the width steps of pairwise exchanges).
template <class T, int D = 1>
TRINIX_INLINE void transpose(Vec<T> (&r)[kWidth<T>]) {
  if constexpr (D < kWidth<T>) {
    unrolled<kWidth<T>>([&](auto i) __attribute__((always_inline)) {
      constexpr int row = i;
      if constexpr ((row & D) == 0) {
        const Vec<T> low = exchange<T, D, false>(r[row], r[row + D]);
        r[row + D] = exchange<T, D, true>(r[row], r[row + D]);
        r[row] = low;
      }
    });
    transpose<T, 2 * D>(r);
  }
}

/// The sum of all lanes, added pairwise.
template <class T>
TRINIX_INLINE T horizontal_sum(Vec<T> v) {
  T lanes[kWidth<T>];
  store(lanes, v);
  for (int half = kWidth<T> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

}  // namespace trinix::cpu::internal
