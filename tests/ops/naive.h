#pragma once

#include "op_case.h"
#include "support/errors.h"

#include <string>

#include <trinix/core/error.h>

/// @file
/// Indexing by plain loops, for references.

namespace trinix::testing {

/// Place of the element at `index` in a row-major array.
inline std::size_t flat(const Shape& shape, const Dims& index) {
  std::int64_t at = 0;
  for (int d = 0; d < shape.size(); ++d) at = at * shape[d] + index[d];
  return static_cast<std::size_t>(at);
}

/// Calls f(index) for every index of the shape in row-major order.
template <class F>
void for_each_index(const Shape& shape, F f) {
  Dims index = Dims::filled(shape.size(), 0);
  for (std::int64_t n = numel(shape); n > 0; --n) {
    f(index);
    for (int d = shape.size() - 1; d >= 0; --d) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
}

inline Array zero_array(const Shape& shape) {
  return {shape, std::vector<double>(static_cast<std::size_t>(numel(shape)))};
}

}  // namespace trinix::testing
