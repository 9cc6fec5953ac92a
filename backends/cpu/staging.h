#pragma once

#include <cstdint>
#include <type_traits>

#include <trinix/core/dtype.h>

/// @file
/// Short runs of elements, brought into L1 as the type in which a kernel computes. A kernel then needs one loop per
/// compute type, over contiguous memory, and 16-bit storage and odd strides cost two cheap passes over L1.

namespace trinix::cpu {

/// Elements staged at once: few enough for three such buffers to stay in L1, enough to hide the overhead of a call.
inline constexpr std::int64_t kStage = 512;

template <class C, class T>
constexpr C widen(T v) {
  if constexpr (std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>) {
    return static_cast<C>(static_cast<float>(v));
  } else {
    return static_cast<C>(v);
  }
}

template <class T, class C>
constexpr T narrow(C v) {
  if constexpr (std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>) {
    return T(static_cast<float>(v));
  } else if constexpr (std::is_same_v<T, bool>) {
    return v != C(0);
  } else {
    return static_cast<T>(v);
  }
}

template <class C, class T>
void load_stage(C* to, const T* from, std::int64_t stride, std::int64_t n) {
  if (stride == 1) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) to[i] = widen<C>(from[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i] = widen<C>(from[i * stride]);
  }
}

template <class T, class C>
void store_stage(T* to, std::int64_t stride, const C* from, std::int64_t n) {
  if (stride == 1) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) to[i] = narrow<T>(from[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * stride] = narrow<T>(from[i]);
  }
}

/// `n` elements as C: where they lie if they can be used as they are, otherwise copied to `buffer`.
template <class C, class T>
const C* staged(const T* from, std::int64_t stride, std::int64_t n, C* buffer) {
  if constexpr (std::is_same_v<C, T>) {
    if (stride == 1) return from;
  }
  load_stage(buffer, from, stride, n);
  return buffer;
}

/// load_stage and store_stage as values, for loops that are compiled once per compute type C rather than once per
/// storage type T. `is_copy` says that T is C.
template <class C>
struct Load {
  bool is_copy;
  /// `n` elements of `data` from `offset` on: where they lie if they can be used as they are, otherwise in `buffer`.
  const C* (*run)(const void* data, std::int64_t offset, std::int64_t stride, std::int64_t n, C* buffer);
};
template <class C>
struct Store {
  bool is_copy;
  void (*run)(void* data, std::int64_t offset, std::int64_t stride, const C* from, std::int64_t n);
};

template <class C, class T>
const C* load_from(const void* data, std::int64_t offset, std::int64_t stride, std::int64_t n, C* buffer) {
  return staged(static_cast<const T*>(data) + offset, stride, n, buffer);
}
template <class C, class T>
void store_to(void* data, std::int64_t offset, std::int64_t stride, const C* from, std::int64_t n) {
  store_stage(static_cast<T*>(data) + offset, stride, from, n);
}

template <class C, class T>
inline constexpr Load<C> load_of{std::is_same_v<C, T>, load_from<C, T>};
template <class C, class T>
inline constexpr Store<C> store_of{std::is_same_v<C, T>, store_to<C, T>};

}  // namespace trinix::cpu
