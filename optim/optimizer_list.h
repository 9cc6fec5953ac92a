#pragma once

#include <memory>
#include <vector>

#include <trinix/optim/optimizer.h>

/// @file
/// Several optimizers that are used as one.

namespace trinix::optim {

/// Each member updates parameters of its own; a step is a step of each. Names in state_dict() begin with the number of
/// the member: `0.state.p.step`.
class OptimizerList : public Optimizer {
 public:
  /// @throws ConfigError for an empty list, a null pointer, or a parameter or a name that two members have.
  explicit OptimizerList(std::vector<std::unique_ptr<Optimizer>> members);
  OptimizerList(OptimizerList&&) noexcept = default;
  OptimizerList& operator=(OptimizerList&&) noexcept = default;

  [[nodiscard]] std::size_t size() const { return members_.size(); }
  /// @throws std::out_of_range.
  [[nodiscard]] Optimizer& operator[](std::size_t i) const { return *members_.at(i); }

  void zero_grad() const override;
  [[nodiscard]] const Tensor& skipped() const override { return members_.front()->skipped(); }
  [[nodiscard]] double lr() const override { return members_.front()->lr(); }
  /// Sets the learning rate of the first member; the others get theirs multiplied, so that all keep the ratios that
  /// they had when the list was made. @throws as the members.
  void set_lr(double lr) override;
  [[nodiscard]] std::vector<NamedTensor> named_parameters() const override;
  [[nodiscard]] std::size_t group_count() const override;
  [[nodiscard]] StateDict state_dict() const override;
  void load_state_dict(const StateDict& state) override;

 protected:
  void update(const StepOptions& options) override;

 private:
  std::vector<std::unique_ptr<Optimizer>> members_;
  std::vector<double> ratios_;  // of each member's learning rate to the first one's
};

}  // namespace trinix::optim
