#include <trinix/optim/adam.h>

namespace trinix::optim {

void AdamOptions::validate() const {
  check_not_negative("Adam", "lr", lr);
  check_not_negative("Adam", "eps", eps);
  check_not_negative("Adam", "weight_decay", weight_decay);
  check_betas("Adam", betas[0], betas[1]);
  check_state_options("Adam", state);
}

Adam::Adam(const std::vector<ParamGroup<AdamOptions>>& groups)
    : GroupedOptimizer("Adam", {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}, groups) {}

UpdateKind Adam::kind(std::size_t group) const {
  return options(group).amsgrad ? UpdateKind::amsgrad : UpdateKind::adam;
}

UpdateRule Adam::rule(std::size_t group) const {
  const AdamOptions& o = options(group);
  return {.lr = o.lr,
          .beta1 = o.betas[0],
          .beta2 = o.betas[1],
          .eps = o.eps,
          .weight_decay = o.weight_decay,
          .maximize = o.maximize};
}

}  // namespace trinix::optim
