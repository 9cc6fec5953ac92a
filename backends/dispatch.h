#pragma once

#include <utility>

#include <trinix/core/detail/fail.h>
#include <trinix/core/dtype.h>
#include <trinix/core/error.h>

/// @file
/// From a dtype at run time to a C++ type: dispatch_all(t, "op", [&]<class T>() { ... }).

namespace trinix {

template <class F>
decltype(auto) dispatch_floating(DType t, const char* op, F&& f) {
  switch (t) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::bf16:
      return f.template operator()<bfloat16>();
    case DType::f16:
      return f.template operator()<float16>();
    default:
      detail::fail<DtypeError>(op, "takes floating-point tensors, got {}: convert with to()", t);
  }
}

template <class F>
decltype(auto) dispatch_integral(DType t, const char* op, F&& f) {
  switch (t) {
    case DType::i64:
      return f.template operator()<std::int64_t>();
    case DType::i32:
      return f.template operator()<std::int32_t>();
    case DType::u8:
      return f.template operator()<std::uint8_t>();
    default:
      detail::fail<DtypeError>(op, "takes integer tensors, got {}: convert with to()", t);
  }
}

template <class F>
decltype(auto) dispatch_arithmetic(DType t, const char* op, F&& f) {
  return is_integral(t) ? dispatch_integral(t, op, std::forward<F>(f)) : dispatch_floating(t, op, std::forward<F>(f));
}

template <class F>
decltype(auto) dispatch_all(DType t, const char* op, F&& f) {
  return t == DType::boolean ? f.template operator()<bool>() : dispatch_arithmetic(t, op, std::forward<F>(f));
}

/// For ops that only move elements: one instantiation per element size instead of one per dtype.
template <class F>
decltype(auto) dispatch_by_size(DType t, F&& f) {
  switch (size_of(t)) {
    case 1:
      return f.template operator()<std::uint8_t>();
    case 2:
      return f.template operator()<std::uint16_t>();
    case 4:
      return f.template operator()<std::uint32_t>();
    default:
      return f.template operator()<std::uint64_t>();
  }
}

}  // namespace trinix
