#include <trinix/optim/lion.h>

namespace trinix::optim {

void LionOptions::validate() const {
  check_not_negative("Lion", "lr", lr);
  check_not_negative("Lion", "weight_decay", weight_decay);
  check_betas("Lion", betas[0], betas[1]);
  check_state_options("Lion", state);
}

Lion::Lion(const std::vector<ParamGroup<LionOptions>>& groups) : GroupedOptimizer("Lion", {"exp_avg"}, groups) {}

UpdateKind Lion::kind(std::size_t) const { return UpdateKind::lion; }

UpdateRule Lion::rule(std::size_t group) const {
  const LionOptions& o = options(group);
  return {.lr = o.lr,
          .beta1 = o.betas[0],
          .beta2 = o.betas[1],
          .weight_decay = o.weight_decay,
          .decoupled = true,
          .maximize = o.maximize};
}

}  // namespace trinix::optim
