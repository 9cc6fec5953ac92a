#pragma once

#include <array>

#include <trinix/optim/elementwise.h>

/// @file
/// Adam.

namespace trinix::optim {

/// Names and defaults of torch.optim.Adam.
struct AdamOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;  ///< times the parameter, added to the gradient (L2 form); decoupled decay is AdamW's
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

/// Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980. State: exp_avg, exp_avg_sq, with
/// amsgrad max_exp_avg_sq.
class Adam : public GroupedOptimizer<AdamOptions, ElementwiseOptimizer> {
 public:
  explicit Adam(const std::vector<ParamGroup<AdamOptions>>& groups);
  explicit Adam(const std::vector<NamedTensor>& parameters, const AdamOptions& options = {})
      : Adam(std::vector<ParamGroup<AdamOptions>>{{parameters, options}}) {}
  explicit Adam(const std::vector<Tensor>& parameters, const AdamOptions& options = {})
      : Adam(unnamed(parameters), options) {}

 protected:
  [[nodiscard]] UpdateKind kind(std::size_t group) const override;
  [[nodiscard]] UpdateRule rule(std::size_t group) const override;
};

}  // namespace trinix::optim
