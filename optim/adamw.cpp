#include <cmath>
#include <utility>

#include <trinix/autograd/grad_mode.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/adamw.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/flat.h>

namespace trinix::optim {

using detail::fail;

void AdamWOptions::validate() const {
  const auto not_negative = [](const char* what, double value) {
    if (!(value >= 0) || std::isinf(value)) {
      fail<ConfigError>("AdamW", "{} is {}, but must be a number of at least 0", what, value);
    }
  };
  not_negative("lr", lr);
  not_negative("eps", eps);
  not_negative("weight_decay", weight_decay);
  for (const double beta : betas) {
    if (!(beta >= 0 && beta < 1)) {
      fail<ConfigError>("AdamW", "the betas are {} and {}, but must lie in [0, 1)", betas[0], betas[1]);
    }
  }
}

AdamW::AdamW(const std::vector<ParamGroup<AdamWOptions>>& groups)
    : GroupedOptimizer("AdamW", {"exp_avg", "exp_avg_sq"}, groups) {}

namespace {

/// One launch: the tensors of one device.
struct Launch {
  Device device;
  std::vector<AdamWItem> items;
};

Launch& launch_on(std::vector<Launch>& launches, Device device) {
  for (Launch& launch : launches) {
    if (launch.device == device) return launch;
  }
  return launches.emplace_back(Launch{device, {}});
}

}  // namespace

void AdamW::step(const StepOptions& step_options) {
  const NoGrad no_grad;
  std::vector<Launch> launches;
  std::vector<AdamWRule> rules;
  std::vector<std::size_t> group_of_rule;
  std::vector<Slot*> updated;
  std::vector<Tensor> gradients;  // keeps copies of strided ones alive

  const auto rule_for = [&](const Slot& slot) {
    std::size_t i = rules.size();
    while (i > 0 && !(group_of_rule[i - 1] == slot.group && rules[i - 1].step == slot.step + 1)) --i;
    if (i == 0) {
      const AdamWOptions& o = options(slot.group);
      o.validate();  // they may have been changed, or loaded
      rules.push_back({o.lr, o.betas[0], o.betas[1], o.eps, o.weight_decay, slot.step + 1, o.maximize});
      group_of_rule.push_back(slot.group);
      i = rules.size();
    }
    return static_cast<std::int32_t>(i - 1);
  };
  for (Slot& slot : slots()) {
    const Tensor gradient = gradient_of(slot);
    if (!gradient.defined() || gradient.numel() == 0) continue;
    prepare_state(slot);
    launch_on(launches, slot.parameter.device())
        .items.push_back({.param = flat(slot.parameter),
                          .grad = flat(gradient),
                          .exp_avg = flat(slot.state[0]),
                          .exp_avg_sq = flat(slot.state[1]),
                          .rule = rule_for(slot)});
    gradients.push_back(gradient);
    updated.push_back(&slot);
  }
  for (const Launch& launch : launches) {
    run<trinix::AdamW>({.items = launch.items, .rules = rules, .grad_scale = step_options.grad_scale}, launch.device);
  }
  for (Slot* slot : updated) {
    ++slot->step;
    slot->parameter.storage()->mark_written("AdamW");
  }
}

}  // namespace trinix::optim
