#pragma once

#include <memory>

#include <trinix/core/ops/update.h>
#include <trinix/optim/grouped_optimizer.h>

/// @file
/// The base of the optimizers whose elements know nothing of one another: all but Muon. Formulas: core/ops/update.h.

namespace trinix::optim {

/// Updates all parameters of a device in one launch. What it consists of is worked out once and used again as long as
/// parameters, gradients and state lie where they did, so that thousands of small tensors cost little on the host too.
class ElementwiseOptimizer : public ParameterOptimizer {
 public:
  ~ElementwiseOptimizer() override;

 protected:
  ElementwiseOptimizer(const char* name, std::vector<std::string> state_names);

  [[nodiscard]] virtual UpdateKind kind(std::size_t group) const = 0;
  /// The rule of a group with its present options; step and seed are filled in by the caller.
  [[nodiscard]] virtual UpdateRule rule(std::size_t group) const = 0;
  [[nodiscard]] std::size_t state_count(std::size_t group) const override {
    return static_cast<std::size_t>(states_of(kind(group)));
  }

  void update(const StepOptions& options) override;

 private:
  struct Plan;
  /// What a step with the present gradients and options consists of.
  [[nodiscard]] std::unique_ptr<Plan> make_plan();
  /// Whether the plan is what make_plan() would make now. Master copies follow their parameters on the way.
  [[nodiscard]] bool still_holds(const Plan& plan) const;
  [[nodiscard]] UpdateRule rule_of(const Slot& slot) const;

  std::unique_ptr<Plan> plan_;
};

}  // namespace trinix::optim
