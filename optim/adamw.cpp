#include <trinix/optim/adamw.h>

namespace trinix::optim {

void AdamWOptions::validate() const {
  check_not_negative("AdamW", "lr", lr);
  check_not_negative("AdamW", "eps", eps);
  check_not_negative("AdamW", "weight_decay", weight_decay);
  check_betas("AdamW", betas[0], betas[1]);
  check_state_options("AdamW", state);
}

AdamW::AdamW(const std::vector<ParamGroup<AdamWOptions>>& groups)
    : GroupedOptimizer("AdamW", {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}, groups) {}

UpdateKind AdamW::kind(std::size_t group) const {
  return options(group).amsgrad ? UpdateKind::amsgrad : UpdateKind::adam;
}

UpdateRule AdamW::rule(std::size_t group) const {
  const AdamWOptions& o = options(group);
  return {.lr = o.lr,
          .beta1 = o.betas[0],
          .beta2 = o.betas[1],
          .eps = o.eps,
          .weight_decay = o.weight_decay,
          .decoupled = true,
          .maximize = o.maximize};
}

}  // namespace trinix::optim
