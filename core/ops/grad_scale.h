#pragma once

#include <cstdint>

#include <trinix/core/kernel.h>
#include <trinix/core/philox.h>
#include <trinix/core/view.h>

/// @file
/// How the scale of a loss follows what became of its gradients, without the host knowing. Micikevicius et al., "Mixed
/// Precision Training", arXiv 1710.03740, section 3.2.

namespace trinix {

/// The numbers of a rule; see optim/grad_scaler.h.
struct GradScaleRule {
  double growth = 2;
  double backoff = 0.5;
  std::int64_t interval = 2000;
};

/// scale[0] is the scale, scale[1] its inverse; counts[0] the steps with finite gradients since the scale changed last,
/// counts[1] the steps in a row whose gradients were not finite. With a `norm` (one f64) that is finite, counts[1]
/// becomes 0, and after `interval` such steps the scale is multiplied by `growth`; with another, the scale is
/// multiplied by `backoff`. It stays within [2^-126, 2^126], so that the inverse is neither 0 nor infinite.
struct GradScale {
  static constexpr const char* kName = "grad_scale";
  static constexpr bool kHasReference = false;
  struct Forward {
    View norm;    ///< f64, one element
    View scale;   ///< f32 (2), in place
    View counts;  ///< i64 (2), in place
    GradScaleRule rule{};
  };
  using Backward = NoBackward;
};

/// What every device does.
TRINIX_HOST_DEVICE inline void update_grad_scale(double norm, float* scale, std::int64_t* counts,
                                                 const GradScaleRule& rule) {
  constexpr double kLeast = 0x1p-126;
  constexpr double kMost = 0x1p126;
  double now = static_cast<double>(scale[0]);
  if (norm - norm == 0) {
    counts[1] = 0;
    if (++counts[0] < rule.interval) return;
    now *= rule.growth;
  } else {
    ++counts[1];
    now *= rule.backoff;
  }
  counts[0] = 0;
  now = now < kLeast ? kLeast : now > kMost ? kMost : now;
  scale[0] = static_cast<float>(now);
  scale[1] = static_cast<float>(1 / static_cast<double>(scale[0]));
}

}  // namespace trinix
