#pragma once

#include <array>

#include <trinix/core/ops/adamw.h>
#include <trinix/optim/optimizer.h>

/// @file
/// Adam with decoupled weight decay.

namespace trinix::optim {

/// Names and defaults of torch.optim.AdamW.
struct AdamWOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 1e-2;
  bool maximize = false;
  /// Whether 16-bit parameters get a master copy in f32, which is what is updated: without it, updates smaller than a
  /// parameter's rounding (1/256 of a bf16) are lost. No part of the saved options; the copy itself is saved.
  bool master_weights = true;

  /// @throws ConfigError for a negative lr, eps or weight_decay, or betas outside [0, 1).
  void validate() const;
  /// Calls f(name, value) for each option.
  template <class F>
  void visit(F&& f) {
    f("lr", lr);
    f("beta1", betas[0]);
    f("beta2", betas[1]);
    f("eps", eps);
    f("weight_decay", weight_decay);
    f("maximize", maximize);
  }
};

/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101; the formulas stand in
/// core/ops/adamw.h. All parameters are updated in one launch. The moments are f32 (f64 for f64 parameters).
class AdamW : public GroupedOptimizer<AdamWOptions> {
 public:
  explicit AdamW(const std::vector<ParamGroup<AdamWOptions>>& groups);
  explicit AdamW(const std::vector<NamedTensor>& parameters, const AdamWOptions& options = {})
      : AdamW(std::vector<ParamGroup<AdamWOptions>>{{parameters, options}}) {}
  explicit AdamW(const std::vector<Tensor>& parameters, const AdamWOptions& options = {})
      : AdamW(unnamed(parameters), options) {}

  void step(const StepOptions& options = {}) override;

 protected:
  [[nodiscard]] bool keeps_master(const Slot& slot) const override {
    return size_of(slot.parameter.dtype()) == 2 && options(slot.group).master_weights;
  }

 private:
  struct Update;
  /// What a step with the present gradients and options consists of.
  [[nodiscard]] Update plan();
  [[nodiscard]] AdamWRule rule_of(const Slot& slot) const;
  /// Has replays of a captured step do what step() does on the host.
  void follow_replays(const Update& update, AdamWFactors* factors);
};

}  // namespace trinix::optim
