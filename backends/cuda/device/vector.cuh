#pragma once

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <trinix/core/half.h>

/// @file
/// Loads and stores of several elements at once, and conversion between storage and compute types.

namespace trinix::cuda {

/// kCount elements that travel as one memory access of up to 16 bytes.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
  T at[kCount];
};

template <int kCount, class T>
__device__ Vector<T, kCount> load_vector(const T* p) {
  return *reinterpret_cast<const Vector<T, kCount>*>(p);
}

template <int kCount, class T>
__device__ void store_vector(T* p, const Vector<T, kCount>& v) {
  *reinterpret_cast<Vector<T, kCount>*>(p) = v;
}

namespace internal {
/// An integer type of so many bytes, for accesses with a cache hint.
template <int kBytes>
struct BitsOf;
template <>
struct BitsOf<16> {
  using type = uint4;
};
template <>
struct BitsOf<8> {
  using type = uint2;
};
template <>
struct BitsOf<4> {
  using type = unsigned;
};
template <>
struct BitsOf<2> {
  using type = unsigned short;
};
}  // namespace internal

/// The same for data that will not be used again soon: it leaves the caches first.
template <int kCount, class T>
__device__ Vector<T, kCount> load_streaming(const T* p) {
  using Bits = typename internal::BitsOf<sizeof(T) * kCount>::type;
  const Bits bits = __ldcs(reinterpret_cast<const Bits*>(p));
  return *reinterpret_cast<const Vector<T, kCount>*>(&bits);
}

template <int kCount, class T>
__device__ void store_streaming(T* p, const Vector<T, kCount>& v) {
  using Bits = typename internal::BitsOf<sizeof(T) * kCount>::type;
  __stcs(reinterpret_cast<Bits*>(p), *reinterpret_cast<const Bits*>(&v));
}

/// Elements of T in one 16-byte access.
template <class T>
inline constexpr int kPerAccess = 16 / static_cast<int>(sizeof(T));

// Storage to compute type: the 16-bit types through the hardware's own conversions.
__device__ inline float widen(bfloat16 v) { return __uint_as_float(static_cast<std::uint32_t>(v.bits) << 16); }
__device__ inline float widen(float16 v) { return __half2float(__ushort_as_half(v.bits)); }
template <class T>
__device__ T widen(T v) {
  return v;
}

template <class T, class C>
__device__ T narrow_to(C v) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return bfloat16::from_bits(__bfloat16_as_ushort(__float2bfloat16_rn(static_cast<float>(v))));
  } else if constexpr (std::is_same_v<T, float16>) {
    return float16::from_bits(__half_as_ushort(__float2half_rn(static_cast<float>(v))));
  } else {
    return static_cast<T>(v);
  }
}

}  // namespace trinix::cuda
