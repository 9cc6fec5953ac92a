#pragma once

#include <cstdint>
#include <span>

#include <trinix/core/kernel.h>
#include <trinix/core/ops/flat.h>

/// @file
/// AdamW over a list of tensors in one launch. Loshchilov and Hutter, arXiv 1711.05101; the order of operations is that
/// of torch.optim.AdamW.

namespace trinix {

/// What tensors of one parameter group have in common. A group splits when its tensors have made different numbers of
/// steps. There are few of these, so that a backend which replays a captured launch can keep them in device memory and
/// have them rewritten between launches; kernels therefore read them per chunk and bake nothing into the launch.
struct AdamWRule {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  std::int64_t step = 1;  ///< of this update, counted from 1
  bool maximize = false;
};

/// One tensor: param and grad share a floating-point dtype; exp_avg and exp_avg_sq are in its compute_type().
struct AdamWItem {
  Flat param;
  Flat grad;
  Flat exp_avg;
  Flat exp_avg_sq;
  std::int32_t rule = 0;  ///< index into the rules
};

/// Per element, with g = grad * grad_scale (negated to maximize):
///   p  = p (1 - lr weight_decay)
///   m += (1 - beta1) (g - m)
///   v  = beta2 v + (1 - beta2) g^2
///   p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
/// grad_scale carries the factor of clipping (and later the unscaling of a loss), which saves a pass over the
/// gradients.
struct AdamW {
  static constexpr const char* kName = "adamw";
  static constexpr bool kHasReference = false;
  struct Forward {
    std::span<const AdamWItem> items;
    std::span<const AdamWRule> rules;
    double grad_scale = 1;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
