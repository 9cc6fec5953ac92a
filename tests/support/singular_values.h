#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Singular values without a library: one-sided Jacobi in f64 (Golub and Van Loan, "Matrix Computations", 8.6).

namespace trinix::testing {

/// The columns of `columns` become orthogonal; each is a vector of one length.
inline void orthogonalise_columns(std::vector<std::vector<double>>& columns) {
  for (int sweep = 0; sweep < 60; ++sweep) {
    double largest = 0;
    for (std::size_t p = 0; p + 1 < columns.size(); ++p) {
      for (std::size_t q = p + 1; q < columns.size(); ++q) {
        std::vector<double>&x = columns[p], &y = columns[q];
        double xx = 0, yy = 0, xy = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
          xx += x[i] * x[i];
          yy += y[i] * y[i];
          xy += x[i] * y[i];
        }
        if (xy == 0 || std::abs(xy) <= 1e-15 * std::sqrt(xx * yy)) continue;
        largest = std::max(largest, std::abs(xy) / std::sqrt(xx * yy));
        const double zeta = (yy - xx) / (2 * xy);
        const double t = (zeta >= 0 ? 1 : -1) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
        const double c = 1 / std::sqrt(1 + t * t), s = c * t;
        for (std::size_t i = 0; i < x.size(); ++i) {
          const double old = x[i];
          x[i] = c * old - s * y[i];
          y[i] = s * old + c * y[i];
        }
      }
    }
    if (largest < 1e-14) return;
  }
}

/// The min(rows, cols) singular values of a matrix, the largest first.
inline std::vector<double> singular_values(const Tensor& matrix) {
  const std::int64_t rows = matrix.size(0), cols = matrix.size(1);
  const std::vector<double> values = matrix.to_doubles();
  const bool wide = rows < cols;  // the shorter side gives the columns
  const auto count = static_cast<std::size_t>(wide ? rows : cols),
             length = static_cast<std::size_t>(wide ? cols : rows);
  std::vector<std::vector<double>> columns(count, std::vector<double>(length));
  for (std::size_t j = 0; j < count; ++j) {
    for (std::size_t i = 0; i < length; ++i) columns[j][i] = wide ? values[j * length + i] : values[i * count + j];
  }
  orthogonalise_columns(columns);
  std::vector<double> found;
  for (const auto& column : columns) {
    double squares = 0;
    for (const double x : column) squares += x * x;
    found.push_back(std::sqrt(squares));
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

}  // namespace trinix::testing
