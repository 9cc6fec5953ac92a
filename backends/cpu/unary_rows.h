#pragma once

#include <cstdint>

#include <trinix/backends/unary_functions.h>
#include <trinix/core/ops/elementwise.h>

/// @file
/// The functions of UnaryFn over contiguous elements, for kernels that apply one to what they have in L1.

namespace trinix::cpu {

template <class C>
struct UnaryRows {
  int cost = 0;
  void (*value)(const C* x, C* y, std::int64_t n, fn::Constants<C> k) = nullptr;
  /// `s` is what saved_by() names; functions that need nothing never read it.
  void (*gradient)(const C* dy, const C* s, C* dx, std::int64_t n, fn::Constants<C> k) = nullptr;
};

/// Output and input may be the same. C is float or double. @throws DtypeError for logical_not.
template <class C>
[[nodiscard]] UnaryRows<C> unary_rows(UnaryFn function);

}  // namespace trinix::cpu
