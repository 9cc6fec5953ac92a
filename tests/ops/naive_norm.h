#pragma once

#include "op_case.h"

#include <cmath>

/// @file
/// Normalisation in double precision, straight from its definition.

namespace trinix::testing {

inline constexpr double kEps = 1e-5;

enum class Centre { mean, zero };

/// Layer normalisation about the mean, RMS normalisation about zero; weight and bias may be null.
inline Array naive_norm(const Array& x, Centre about, const Array* weight, const Array* bias, double eps) {
  Array y = x;
  const auto n = static_cast<std::size_t>(x.size(-1));
  for (std::size_t row = 0; row < x.values.size(); row += n) {
    double centre = 0, spread = 0;
    if (about == Centre::mean) {
      for (std::size_t i = 0; i < n; ++i) centre += x[row + i] / static_cast<double>(n);
    }
    for (std::size_t i = 0; i < n; ++i) spread += (x[row + i] - centre) * (x[row + i] - centre);
    for (std::size_t i = 0; i < n; ++i) {
      y[row + i] = (x[row + i] - centre) / std::sqrt(spread / static_cast<double>(n) + eps);
      if (weight != nullptr) y[row + i] *= (*weight)[i];
      if (bias != nullptr) y[row + i] += (*bias)[i];
    }
  }
  return y;
}

inline Array naive_sum(const Array& a, const Array& b) {
  Array sum = a;
  for (std::size_t i = 0; i < sum.values.size(); ++i) sum[i] += b[i];
  return sum;
}

/// What cat({a, b}, -1) is, so that a case can look at two results at once.
inline Array side_by_side(const Array& a, const Array& b) {
  Array both{a.shape, {}};
  const auto n = static_cast<std::size_t>(a.size(-1));
  both.shape[both.shape.size() - 1] *= 2;
  for (std::size_t row = 0; row < a.values.size(); row += n) {
    for (const Array* part : {&a, &b}) {
      for (std::size_t i = 0; i < n; ++i) both.values.push_back((*part)[row + i]);
    }
  }
  return both;
}

/// Rows made of one value, and gradients that nearly cancel over repeated elements, have no meaningful relative error.
inline std::vector<Layout> without_repeats() { return {Layout::contiguous, Layout::transposed, Layout::sliced}; }

}  // namespace trinix::testing
