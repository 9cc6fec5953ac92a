#pragma once

#include <cstdint>

#include <trinix/core/view.h>

/// @file
/// What the kernels that work by index share.

namespace trinix {

/// f.operator()<Index>() for the index's element type; the caller has made sure that it is i64 or i32.
template <class F>
decltype(auto) dispatch_index(const View& index, F&& f) {
  return index.dtype == DType::i32 ? f.template operator()<std::int32_t>() : f.template operator()<std::int64_t>();
}

/// The view without one of its dims.
inline View without_dim(View v, int dim) {
  v.shape.erase(dim);
  v.strides.erase(dim);
  return v;
}

}  // namespace trinix
