#pragma once

#include <cstdint>
#include <span>

#include <trinix/core/kernel.h>
#include <trinix/core/ops/flat.h>
#include <trinix/core/ops/gradient_factor.h>
#include <trinix/core/ops/update.h>

/// @file
/// What Muon orthogonalises: the momentum of each matrix, brought to a Frobenius norm of 1.

namespace trinix {

/// One matrix. `momentum` is in compute_type(grad), or bf16 where that is f32. `out` is f64 for f64 gradients; for
/// others the CPU takes any other floating-point dtype, CUDA f16 for f16 and bf16 for the rest.
struct MuonItem {
  Flat grad;
  Flat momentum;
  Flat out;
  std::int32_t rule = 0;  ///< index into the rules

  friend bool operator==(const MuonItem&, const MuonItem&) = default;
};

struct MuonRule {
  double momentum = 0.95;
  bool nesterov = true;
  bool maximize = false;
  double eps = 1e-7;
  double margin = 1;  ///< the norm counts as so many times itself
};

/// What kernels read of a rule, as UpdateFactors.
struct MuonFactors {
  double sign = 1;
  double gain = 0;     ///< 1 - momentum
  double of_mean = 1;  ///< what the direction takes of the momentum buffer
  double of_grad = 0;  ///< and of the gradient
  double eps = 0;
  double margin = 1;
};

[[nodiscard]] inline MuonFactors muon_factors(const MuonRule& r) {
  return {.sign = r.maximize ? -1.0 : 1.0,
          .gain = 1 - r.momentum,
          .of_mean = r.nesterov ? r.momentum : 1,
          .of_grad = r.nesterov ? 1 - r.momentum : 0,
          .eps = r.eps,
          .margin = r.margin};
}

/// Per matrix, with g as in GradientFactor, negated to maximize:
///   m += (1 - momentum) (g - m)
///   u  = nesterov ? momentum m + (1 - momentum) g : m, rounded to out's dtype
///   out = u / max(margin |u|, eps), |u| the Frobenius norm, added up in f64 in a fixed order
struct MuonDirection {
  static constexpr const char* kName = "muon_direction";
  static constexpr bool kHasReference = false;
  struct Forward {
    /// All of the same three dtypes.
    std::span<const MuonItem> items;
    std::span<const MuonRule> rules;
    GradientFactor gradient{};
    View skipped{};                        ///< as in Update
    const MuonFactors* factors = nullptr;  ///< as in Update
  };
  using Backward = NoBackward;
};

}  // namespace trinix
