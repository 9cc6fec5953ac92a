#pragma once

#include <array>

#include <trinix/optim/elementwise.h>

/// @file
/// Lion.

namespace trinix::optim {

/// Defaults of the paper's reference implementation. Every element moves by lr, so lr is three to ten times smaller
/// than AdamW's and weight_decay as many times larger.
struct LionOptions {
  double lr = 1e-4;
  std::array<double, 2> betas = {0.9, 0.99};
  double weight_decay = 0;  ///< decoupled
  bool maximize = false;
  StateOptions state = {};

  /// @throws ConfigError for a negative lr or weight_decay, or betas outside [0, 1).
  void validate() const;
  /// Calls f(name, value) for each option that is saved.
  template <class F>
  void visit(F&& f) {
    f("lr", lr);
    f("beta1", betas[0]);
    f("beta2", betas[1]);
    f("weight_decay", weight_decay);
    f("maximize", maximize);
  }
};

/// Chen et al., "Symbolic Discovery of Optimization Algorithms", arXiv 2302.06675, algorithm 2. State: exp_avg.
class Lion : public GroupedOptimizer<LionOptions, ElementwiseOptimizer> {
 public:
  explicit Lion(const std::vector<ParamGroup<LionOptions>>& groups);
  explicit Lion(const std::vector<NamedTensor>& parameters, const LionOptions& options = {})
      : Lion(std::vector<ParamGroup<LionOptions>>{{parameters, options}}) {}
  explicit Lion(const std::vector<Tensor>& parameters, const LionOptions& options = {})
      : Lion(unnamed(parameters), options) {}

 protected:
  [[nodiscard]] UpdateKind kind(std::size_t group) const override;
  [[nodiscard]] UpdateRule rule(std::size_t group) const override;
};

}  // namespace trinix::optim
