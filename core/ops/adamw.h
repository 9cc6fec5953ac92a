#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include <trinix/core/kernel.h>
#include <trinix/core/ops/flat.h>
#include <trinix/core/philox.h>
#include <trinix/core/view.h>

/// @file
/// AdamW over a list of tensors in one launch. Loshchilov and Hutter, arXiv 1711.05101; the order of operations is that
/// of torch.optim.AdamW.

namespace trinix {

/// What tensors of one parameter group have in common. A group splits when its tensors have made different numbers of
/// steps.
struct AdamWRule {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  std::int64_t step = 1;  ///< of this update, counted from 1
  bool maximize = false;
};

/// What a rule comes to in one update: the numbers that the inner loop multiplies with. There are few of these, and
/// kernels read them from memory, so that a captured launch follows the learning rate and the step when they are
/// rewritten between replays.
struct AdamWFactors {
  double decay = 1;  ///< 1 - lr weight_decay
  double sign = 1;   ///< -1 to maximize
  double one_less_beta1 = 0;
  double beta2 = 0;
  double one_less_beta2 = 0;
  double step_size = 0;   ///< lr / (1 - beta1^step)
  double root_scale = 1;  ///< 1 / sqrt(1 - beta2^step)
  double eps = 0;
};

[[nodiscard]] inline AdamWFactors adamw_factors(const AdamWRule& r) {
  const auto step = static_cast<double>(r.step);
  return {.decay = 1 - r.lr * r.weight_decay,
          .sign = r.maximize ? -1.0 : 1.0,
          .one_less_beta1 = 1 - r.beta1,
          .beta2 = r.beta2,
          .one_less_beta2 = 1 - r.beta2,
          .step_size = r.lr / (1 - std::pow(r.beta1, step)),
          .root_scale = 1 / std::sqrt(1 - std::pow(r.beta2, step)),
          .eps = r.eps};
}

/// One tensor. `param` is floating point, exp_avg and exp_avg_sq are in its compute_type(), `grad` is in its dtype or
/// in that compute_type(). A 16-bit parameter may have a `master` copy in f32, which is then what is updated; the
/// parameter becomes its rounded value, and is never read.
struct AdamWItem {
  Flat param;
  Flat grad;
  Flat exp_avg;
  Flat exp_avg_sq;
  Flat master;            ///< no data: none
  std::int32_t rule = 0;  ///< index into the rules

  friend bool operator==(const AdamWItem&, const AdamWItem&) = default;
};

/// Per element, with g = grad * grad_scale * clip (negated to maximize):
///   p  = p (1 - lr weight_decay)
///   m += (1 - beta1) (g - m)
///   v  = beta2 v + (1 - beta2) g^2
///   p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
/// grad_scale carries a factor known on the host, which saves a pass over the gradients. `clip` is 1 without a `norm`.
/// With one (the norm of the gradients before grad_scale, on the device; one f64),
///   clip = min(1, max_norm / (|grad_scale| norm + 1e-6)),
/// and when the norm is not finite nothing at all is written but `skipped` (one i64), which counts such updates.
struct AdamW {
  static constexpr const char* kName = "adamw";
  static constexpr bool kHasReference = false;
  struct Forward {
    std::span<const AdamWItem> items;
    std::span<const AdamWRule> rules;
    double grad_scale = 1;
    View norm{};
    double max_norm = std::numeric_limits<double>::infinity();
    View skipped{};
    /// In the device's memory, one per rule, to be read when the kernel runs; null: made from `rules` now.
    const AdamWFactors* factors = nullptr;
  };
  using Backward = NoBackward;
};

/// The factor of clipping. Not for a norm that is not finite.
TRINIX_HOST_DEVICE inline double adamw_clip(double norm, double grad_scale, double max_norm) {
  const double scaled = norm * (grad_scale < 0 ? -grad_scale : grad_scale);
  const double clip = max_norm / (scaled + 1e-6);
  return clip < 1 ? clip : 1;
}

}  // namespace trinix
