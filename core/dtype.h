#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <trinix/core/half.h>

/// @file
/// Element types, their names, and the rule by which mixed types combine.

namespace trinix {

/// Element types of a tensor, in promotion order within each category.
enum class DType : std::uint8_t { boolean, u8, i32, i64, f16, bf16, f32, f64 };

inline constexpr int kDTypes = 8;

/// Bytes per element. A boolean takes one byte holding 0 or 1.
[[nodiscard]] constexpr std::size_t size_of(DType t) {
  constexpr std::size_t sizes[kDTypes] = {1, 1, 4, 8, 2, 2, 4, 8};
  return sizes[static_cast<int>(t)];
}

/// "bool", "u8", "i32", "i64", "f16", "bf16", "f32", "f64".
[[nodiscard]] std::string_view name(DType t);

/// The dtype of that name. @throws DtypeError listing the names.
[[nodiscard]] DType parse_dtype(std::string_view text);

[[nodiscard]] constexpr bool is_floating(DType t) { return t >= DType::f16; }
[[nodiscard]] constexpr bool is_integral(DType t) { return t == DType::u8 || t == DType::i32 || t == DType::i64; }

/// The dtype of the result of an operation on two tensors:
///  - categories rank bool < integer < floating point; the higher category wins and keeps its own dtype;
///  - within the integers the wider one wins (u8 < i32 < i64);
///  - within floating point f64 wins over f32, f32 over both 16-bit types, and f16 with bf16 gives f32.
/// A C++ scalar never widens within its category: f32 tensor * 2.0 stays f32, i64 tensor * 2.5 becomes f32.
[[nodiscard]] constexpr DType promote(DType a, DType b) {
  if (a == b) return a;
  if ((a == DType::f16 && b == DType::bf16) || (a == DType::bf16 && b == DType::f16)) return DType::f32;
  return a > b ? a : b;
}

/// The type in which sums, statistics and transcendental functions of this storage type are computed.
[[nodiscard]] constexpr DType compute_type(DType t) {
  if (t == DType::f16 || t == DType::bf16) return DType::f32;
  return t;
}

/// Maps a C++ element type to its DType.
template <class T>
struct dtype_of_type;
template <>
struct dtype_of_type<bool> {
  static constexpr DType value = DType::boolean;
};
template <>
struct dtype_of_type<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct dtype_of_type<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of_type<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct dtype_of_type<float16> {
  static constexpr DType value = DType::f16;
};
template <>
struct dtype_of_type<bfloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of_type<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of_type<double> {
  static constexpr DType value = DType::f64;
};

template <class T>
inline constexpr DType dtype_of = dtype_of_type<std::remove_cv_t<T>>::value;

/// C++ type in which a kernel computes on storage type T: float for the 16-bit types, T itself otherwise.
template <class T>
struct compute_of {
  using type = T;
};
template <>
struct compute_of<float16> {
  using type = float;
};
template <>
struct compute_of<bfloat16> {
  using type = float;
};
template <class T>
using compute_t = typename compute_of<T>::type;

}  // namespace trinix
