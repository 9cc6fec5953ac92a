#pragma once

#include <vector>

#include <trinix/core/kernel.h>
#include <trinix/core/ops/newton_schulz.h>
#include <trinix/core/tensor.h>

/// @file
/// Orthogonalising matrices, as Muon does with its momentum.

namespace trinix::optim {

enum class NewtonSchulzCoefficients : std::uint8_t {
  /// (3.4445, -4.7750, 2.0315) in every step. Jordan et al., "Muon", 2024. Singular values end between 0.68 and 1.13.
  quintic,
  /// Steps that are the best for the interval of singular values at each; the last one repeats. Amsel et al., "The
  /// Polar Express", arXiv 2505.16932. Singular values end closer to 1.
  polar_express,
};

struct NewtonSchulzOptions {
  NewtonSchulzCoefficients coefficients = NewtonSchulzCoefficients::quintic;
  int steps = 5;
  double eps = 1e-7;  ///< the norm that a matrix is divided by is at least this
  KernelChoice kernel = {};
};

/// The polynomials of the steps.
[[nodiscard]] std::vector<QuinticStep> newton_schulz_steps(NewtonSchulzCoefficients coefficients, int steps);

/// What a norm is multiplied by before a matrix is divided by it: room for rounding, which the Polar Express needs.
[[nodiscard]] double newton_schulz_margin(NewtonSchulzCoefficients coefficients);

/// Matrices of the same singular vectors as those of x (..., rows, cols) and singular values near 1; a matrix of zeros
/// stays one. Computed in x's dtype, with products that accumulate in f32 or wider; on the CPU 16-bit types go through
/// f32.
/// Records no gradient. @throws ShapeError for fewer than two dims, DtypeError for integers, ConfigError, AutogradError
/// when x requires grad.
[[nodiscard]] Tensor newton_schulz(const Tensor& x, const NewtonSchulzOptions& options = {});

/// The iteration alone, on matrices that have been divided by their norms: x (N, rows, cols) and `out` of the same
/// shape, `work` of 2 N min(rows, cols)^2 elements; x is overwritten. All row-major, of one dtype.
void newton_schulz_(const Tensor& x, const Tensor& out, const Tensor& work, const NewtonSchulzOptions& options = {});

}  // namespace trinix::optim
