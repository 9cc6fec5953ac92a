#include <algorithm>
#include <cmath>
#include <utility>

#include <trinix/autograd/grad_mode.h>
#include <trinix/core/backend.h>
#include <trinix/core/capture.h>
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
  std::vector<std::size_t> slots;
};

Launch& launch_on(std::vector<Launch>& launches, Device device) {
  for (Launch& launch : launches) {
    if (launch.device == device) return launch;
  }
  return launches.emplace_back(Launch{device, {}, {}});
}

}  // namespace

struct AdamW::Update {
  std::vector<Launch> launches;
  std::vector<AdamWRule> rules;
  std::vector<std::size_t> first_of_rule;  // a slot for each rule
  std::vector<Tensor> gradients;           // keeps copies of strided ones alive
};

AdamWRule AdamW::rule_of(const Slot& slot) const {
  const AdamWOptions& o = options(slot.group);
  return {o.lr, o.betas[0], o.betas[1], o.eps, o.weight_decay, slot.step + 1, o.maximize};
}

AdamW::Update AdamW::plan() {
  Update update;
  const auto rule_for = [&](std::size_t index) {
    const Slot& slot = slots()[index];
    auto& firsts = update.first_of_rule;
    std::size_t i = firsts.size();
    while (i > 0 && !(slots()[firsts[i - 1]].group == slot.group && slots()[firsts[i - 1]].step == slot.step)) --i;
    if (i == 0) {
      options(slot.group).validate();  // they may have been changed, or loaded
      update.rules.push_back(rule_of(slot));
      firsts.push_back(index);
      i = firsts.size();
    }
    return static_cast<std::int32_t>(i - 1);
  };
  update.gradients.reserve(slots().size());
  for (std::size_t i = 0; i < slots().size(); ++i) {
    Slot& slot = slots()[i];
    const Tensor gradient = gradient_of(slot);
    if (!gradient.defined() || gradient.numel() == 0) continue;
    prepare_state(slot);
    // A captured step looks before each replay.
    if (slot.master.defined() && Capture::current() == nullptr && changed_by_others(slot)) follow_parameter(slot);
    Launch& launch = launch_on(update.launches, slot.parameter.device());
    launch.items.push_back({.param = flat(slot.parameter),
                            .grad = flat(gradient),
                            .exp_avg = flat(slot.state[0]),
                            .exp_avg_sq = flat(slot.state[1]),
                            .master = slot.master.defined() ? flat(slot.master) : Flat{},
                            .rule = rule_for(i)});
    launch.slots.push_back(i);
    update.gradients.push_back(gradient);
  }
  return update;
}

void AdamW::step(const StepOptions& step_options) {
  const NoGrad no_grad;
  prepare_norm(step_options);
  const Update update = plan();
  Capture* const capture = Capture::current();
  AdamWFactors* factors = nullptr;
  if (capture != nullptr) {
    factors = static_cast<AdamWFactors*>(capture->memory(update.rules.size() * sizeof(AdamWFactors)));
  }
  trinix::AdamW::Forward args{.rules = update.rules,
                              .grad_scale = step_options.grad_scale,
                              .max_norm = step_options.max_norm,
                              .factors = factors};
  for (const Launch& launch : update.launches) {
    if (step_options.norm.defined()) {
      if (step_options.norm.device() != launch.device) {
        fail<DeviceError>("AdamW", "the norm is on {}, but parameters are on {}: pass grad_scale instead",
                          step_options.norm.device(), launch.device);
      }
      args.norm = step_options.norm.raw();
      args.skipped = skipped().raw();
    }
    if (capture != nullptr && capture->device() != launch.device) {
      fail<CaptureError>("AdamW", "a step is being captured on {}, but parameters are on {}", capture->device(),
                         launch.device);
    }
    args.items = launch.items;
    run<trinix::AdamW>(args, launch.device);
  }
  if (capture != nullptr) return follow_replays(update, factors);
  for (const Launch& launch : update.launches) {
    for (const std::size_t i : launch.slots) {
      ++slots()[i].step;
      note_written(slots()[i]);
    }
  }
}

void AdamW::follow_replays(const Update& update, AdamWFactors* factors) {
  if (update.launches.empty()) return;
  const Launch& launch = update.launches.front();
  // Loading a state or moving a parameter gives tensors other places. One look per parameter: there may be thousands.
  struct Place {
    std::size_t slot;
    std::size_t first;  // of its rule, with which it must have made as many steps
    const void* parameter;
  };
  std::vector<Place> places;
  for (std::size_t k = 0; k < launch.items.size(); ++k) {
    const AdamWItem& item = launch.items[k];
    places.push_back({launch.slots[k], update.first_of_rule[static_cast<std::size_t>(item.rule)], item.param.data});
  }
  Capture::current()->require([this, places = std::move(places), state = state_places()] {
    return state_places() == state && std::ranges::all_of(places, [this](const Place& place) {
             const Slot& slot = slots()[place.slot];
             return slot.parameter.raw_data() == place.parameter && slot.step == slots()[place.first].step;
           });
  });
  Capture::current()->on_replay(
      [this, indices = launch.slots, firsts = update.first_of_rule, factors](const Stream& stream) {
        std::vector<AdamWFactors> now;
        for (const std::size_t first : firsts) {
          options(slots()[first].group).validate();
          now.push_back(adamw_factors(rule_of(slots()[first])));
        }
        backend_of(stream.device).write(factors, now.data(), now.size() * sizeof(AdamWFactors), stream);
        for (const std::size_t i : indices) {
          Slot& slot = slots()[i];
          if (slot.master.defined() && changed_by_others(slot)) follow_parameter(slot);
          ++slot.step;
          note_written(slot);
        }
      });
}

}  // namespace trinix::optim
