#pragma once

#include <array>

#include <trinix/optim/elementwise.h>

/// @file
/// Adam with decoupled weight decay.

namespace trinix::optim {

/// Names and defaults of torch.optim.AdamW.
struct AdamWOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 1e-2;
  /// Divide by the largest second moment so far instead of the present one. Reddi et al., "On the Convergence of Adam
  /// and Beyond", ICLR 2018.
  bool amsgrad = false;
  bool maximize = false;
  StateOptions state = {};

  /// @throws ConfigError for a negative lr, eps or weight_decay, or betas outside [0, 1).
  void validate() const;
  /// Calls f(name, value) for each option that is saved.
  template <class F>
  void visit(F&& f) {
    f("lr", lr);
    f("beta1", betas[0]);
    f("beta2", betas[1]);
    f("eps", eps);
    f("weight_decay", weight_decay);
    f("amsgrad", amsgrad);
    f("maximize", maximize);
  }
};

/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101. The moments are f32 (f64 for f64
/// parameters) unless AdamWOptions::state says otherwise; state: exp_avg, exp_avg_sq, with amsgrad max_exp_avg_sq.
class AdamW : public GroupedOptimizer<AdamWOptions, ElementwiseOptimizer> {
 public:
  explicit AdamW(const std::vector<ParamGroup<AdamWOptions>>& groups);
  explicit AdamW(const std::vector<NamedTensor>& parameters, const AdamWOptions& options = {})
      : AdamW(std::vector<ParamGroup<AdamWOptions>>{{parameters, options}}) {}
  explicit AdamW(const std::vector<Tensor>& parameters, const AdamWOptions& options = {})
      : AdamW(unnamed(parameters), options) {}

 protected:
  [[nodiscard]] UpdateKind kind(std::size_t group) const override;
  [[nodiscard]] UpdateRule rule(std::size_t group) const override;
};

}  // namespace trinix::optim
