#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/optim/sgd.h>

namespace trinix::optim {

void SGDOptions::validate() const {
  check_not_negative("SGD", "lr", lr);
  check_not_negative("SGD", "momentum", momentum);
  check_not_negative("SGD", "dampening", dampening);
  check_not_negative("SGD", "weight_decay", weight_decay);
  if (nesterov && (momentum == 0 || dampening != 0)) {
    detail::fail<ConfigError>("SGD", "nesterov needs a momentum, which is {}, and no dampening, which is {}", momentum,
                              dampening);
  }
  check_state_options("SGD", state);
}

SGD::SGD(const std::vector<ParamGroup<SGDOptions>>& groups) : GroupedOptimizer("SGD", {"momentum_buffer"}, groups) {}

UpdateKind SGD::kind(std::size_t group) const {
  return options(group).momentum != 0 ? UpdateKind::momentum : UpdateKind::plain;
}

UpdateRule SGD::rule(std::size_t group) const {
  const SGDOptions& o = options(group);
  return {.lr = o.lr,
          .beta1 = o.momentum,
          .weight_decay = o.weight_decay,
          .dampening = o.dampening,
          .nesterov = o.nesterov,
          .maximize = o.maximize};
}

}  // namespace trinix::optim
