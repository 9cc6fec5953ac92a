#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <span>

#include <trinix/core/kernel.h>
#include <trinix/core/ops/flat.h>
#include <trinix/core/ops/gradient_factor.h>
#include <trinix/core/view.h>

/// @file
/// One step of an elementwise optimizer over a list of tensors, in one launch.

namespace trinix {

/// The families of rules. With g the gradient after GradientFactor, negated to maximize, plus l2 * p, each element
/// follows, in the order of operations of PyTorch:
///
///   p  = p * decay                                            (decoupled weight decay)
///   adam      m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
///             p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
///   amsgrad   the same with the largest v so far in place of v under the root
///   lion      p -= lr * sign(beta1 m + (1 - beta1) g);  m = beta2 m + (1 - beta2) g
///   momentum  m = beta1 m + (1 - dampening) g, in the first step m = g
///             p -= lr * (nesterov ? g + beta1 m : m)
///   plain     p -= lr * g
///
/// Kingma and Ba, arXiv 1412.6980; Loshchilov and Hutter, arXiv 1711.05101; Reddi et al., ICLR 2018; Chen et al., arXiv
/// 2302.06675; Sutskever et al., ICML 2013.
enum class UpdateKind : std::uint8_t { adam, amsgrad, lion, momentum, plain };

/// How many tensors a kind remembers: m, v and the largest v, in this order.
[[nodiscard]] TRINIX_HOST_DEVICE constexpr int states_of(UpdateKind kind) {
  switch (kind) {
    case UpdateKind::adam:
      return 2;
    case UpdateKind::amsgrad:
      return 3;
    case UpdateKind::plain:
      return 0;
    default:
      return 1;
  }
}

/// What tensors of one parameter group have in common. A group splits when its tensors have made different numbers of
/// steps. Members that a kind does not know are ignored.
struct UpdateRule {
  double lr = 1e-3;
  double scale = 1;  ///< of lr, except in the decay
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool decoupled = false;  ///< decay the parameter itself instead of adding to the gradient
  double dampening = 0;
  bool nesterov = false;
  bool maximize = false;
  std::int64_t step = 1;   ///< of this update, counted from 1
  std::uint64_t seed = 0;  ///< of stochastic rounding
};

/// What a rule comes to in one update: the numbers that the inner loop multiplies with. There are few of these, and
/// kernels read them from memory, so that a captured launch follows the learning rate and the step when they are
/// rewritten between replays.
struct UpdateFactors {
  double decay = 1;       ///< 1 - lr weight_decay, when decoupled
  double l2 = 0;          ///< weight_decay, when not
  double sign = 1;        ///< -1 to maximize
  double step_size = 0;   ///< lr scale; adam: lr scale / (1 - beta1^step)
  double root_scale = 1;  ///< adam: 1 / sqrt(1 - beta2^step)
  double eps = 0;
  double beta1 = 0;
  double gain1 = 0;  ///< what the first moment takes of the gradient: 1 - beta1; momentum: 1 - dampening
  double beta2 = 0;
  double gain2 = 0;    ///< 1 - beta2
  double of_grad = 0;  ///< momentum: what the step takes of the gradient
  double of_mean = 1;  ///< momentum: and of m
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
};

[[nodiscard]] inline UpdateFactors update_factors(UpdateKind kind, const UpdateRule& r) {
  UpdateFactors f{.decay = r.decoupled ? 1 - r.lr * r.weight_decay : 1,
                  .l2 = r.decoupled ? 0 : r.weight_decay,
                  .sign = r.maximize ? -1.0 : 1.0,
                  .step_size = r.lr * r.scale,
                  .eps = r.eps,
                  .beta1 = r.beta1,
                  .gain1 = 1 - r.beta1,
                  .beta2 = r.beta2,
                  .gain2 = 1 - r.beta2,
                  .seed = r.seed,
                  .step = static_cast<std::uint64_t>(r.step)};
  if (kind == UpdateKind::adam || kind == UpdateKind::amsgrad) {
    const auto step = static_cast<double>(r.step);
    f.step_size = f.step_size / (1 - std::pow(r.beta1, step));
    f.root_scale = 1 / std::sqrt(1 - std::pow(r.beta2, step));
  }
  if (kind == UpdateKind::momentum) {
    f.gain1 = r.step == 1 ? 1 : 1 - r.dampening;
    f.of_grad = r.nesterov ? 1 : 0;
    f.of_mean = r.nesterov ? r.beta1 : 1;
  }
  return f;
}

/// One tensor. With C = compute_type(param):
/// - `grad` is in the parameter's dtype or in C; for an f32 parameter it may be bf16, too;
/// - states are in C; the first may be bf16 unless C is f64;
/// - a 16-bit parameter may have a `master` copy in f32, which is then what is updated; the parameter becomes its
///   rounded value, and is never read;
/// - a bf16 parameter without one may be rounded stochastically: up or down, with the nearer neighbour the likelier in
///   proportion, so that small steps are made on average. Element i draws 16 bits, the lower half for even i, of word
///   i / 2 % 4 of philox(rule's seed, random + i / 8, rule's step).
struct UpdateItem {
  Flat param;
  Flat grad;
  std::array<Flat, 3> state{};
  Flat master;            ///< no data: none
  std::int32_t rule = 0;  ///< index into the rules
  bool stochastic = false;
  std::int64_t random = 0;  ///< where this tensor's random numbers begin

  friend bool operator==(const UpdateItem&, const UpdateItem&) = default;
};

struct Update {
  static constexpr const char* kName = "update";
  static constexpr bool kHasReference = false;
  struct Forward {
    UpdateKind kind = UpdateKind::adam;
    /// Either all parameters are f64 or none; either all first states are bf16 or none.
    std::span<const UpdateItem> items;
    std::span<const UpdateRule> rules;
    GradientFactor gradient{};
    View skipped{};  ///< one i64, optional: counts updates that were left out because the norm was not finite
    /// In the device's memory, one per rule, to be read when the kernel runs; null: made from `rules` now.
    const UpdateFactors* factors = nullptr;
    /// Names this list of items: two calls with the same number, other than 0, have equal items. Saves comparing them.
    std::uint64_t list = 0;
  };
  using Backward = NoBackward;
};

}  // namespace trinix
