#include <algorithm>
#include <atomic>
#include <utility>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/node.h>
#include <trinix/autograd/record.h>
#include <trinix/core/backend.h>
#include <trinix/core/capture.h>
#include <trinix/optim/elementwise.h>
#include <trinix/optim/flat.h>

namespace trinix::optim {

namespace {

/// One launch: tensors of one device and one kind of update.
struct Launch {
  Device device;
  UpdateKind kind;
  bool wide;        // f64
  bool bf16_first;  // first moment
  std::vector<UpdateItem> items;
  std::vector<std::size_t> slots;
  std::uint64_t list = 0;
};

Launch& launch_like(std::vector<Launch>& launches, const Launch& wanted) {
  for (Launch& launch : launches) {
    if (launch.device == wanted.device && launch.kind == wanted.kind && launch.wide == wanted.wide &&
        launch.bf16_first == wanted.bf16_first) {
      return launch;
    }
  }
  return launches.emplace_back(wanted);
}

/// Where a parameter and its gradient were.
struct Place {
  const void* parameter;
  DType dtype;
  const void* gradient;  // null: none
  std::size_t like;      // the first slot of the same rule
};

/// Where the gradient lies, null without one. Unlike grad(), takes no lock when it is fresh.
const void* gradient_address(const Tensor& parameter) {
  const auto& record = parameter.autograd();
  if (record == nullptr || !record->leaf) return nullptr;
  const void* const fresh = static_cast<const LeafNode*>(record->node.get())->fresh_grad();
  if (fresh != nullptr) return fresh;
  const Tensor gradient = parameter.grad();
  return gradient.defined() ? gradient.raw_data() : nullptr;
}

std::uint64_t next_list() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

/// What decides about the types of state besides the parameters.
struct GroupKind {
  UpdateKind kind;
  StateOptions state;
  friend bool operator==(const GroupKind&, const GroupKind&) = default;
};

}  // namespace

struct ElementwiseOptimizer::Plan {
  std::vector<Launch> launches;
  std::vector<UpdateRule> rules;
  std::vector<std::size_t> first_of_rule;  // a slot for each rule
  std::vector<Tensor> gradients;           // copies of strided ones, which must live until the launch
  // To see whether it still holds:
  std::uint64_t state_places = 0;
  std::vector<Place> places;  // of every slot
  std::vector<GroupKind> groups;
};

ElementwiseOptimizer::ElementwiseOptimizer(const char* name, std::vector<std::string> state_names)
    : ParameterOptimizer(name, std::move(state_names)) {}

ElementwiseOptimizer::~ElementwiseOptimizer() = default;

UpdateRule ElementwiseOptimizer::rule_of(const Slot& slot) const {
  UpdateRule r = rule(slot.group);
  r.step = slot.step + 1;
  r.seed = state_options(slot.group).seed;
  return r;
}

std::unique_ptr<ElementwiseOptimizer::Plan> ElementwiseOptimizer::make_plan() {
  auto plan = std::make_unique<Plan>();
  for (std::size_t g = 0; g < group_count(); ++g) plan->groups.push_back({kind(g), state_options(g)});
  const auto rule_for = [&](std::size_t index) {
    const Slot& slot = slots()[index];
    auto& firsts = plan->first_of_rule;
    std::size_t i = firsts.size();
    while (i > 0 && !(slots()[firsts[i - 1]].group == slot.group && slots()[firsts[i - 1]].step == slot.step)) --i;
    if (i > 0) return static_cast<std::int32_t>(i - 1);
    plan->rules.push_back(rule_of(slot));
    firsts.push_back(index);
    return static_cast<std::int32_t>(firsts.size() - 1);
  };
  std::int64_t random = 0;
  for (std::size_t i = 0; i < slots().size(); ++i) {
    Slot& slot = slots()[i];
    const std::int64_t first_random = random;
    random += (slot.parameter.numel() + 7) / 8;  // whole blocks of random numbers
    const Tensor gradient = gradient_of(slot);
    plan->places.push_back({slot.parameter.raw_data(), slot.parameter.dtype(), nullptr, i});
    if (!gradient.defined()) continue;
    plan->places.back().gradient = gradient.raw_data();
    if (gradient.numel() == 0) continue;
    prepare_state(slot);
    // A captured step looks before each replay.
    if (slot.master.defined() && Capture::current() == nullptr && changed_by_others(slot)) follow_parameter(slot);
    const bool bf16_first = !slot.state.empty() && slot.state[0].dtype() == DType::bf16;
    Launch& launch = launch_like(
        plan->launches,
        {slot.parameter.device(), kind(slot.group), slot.parameter.dtype() == DType::f64, bf16_first, {}, {}});
    UpdateItem item{.param = flat(slot.parameter),
                    .grad = flat(gradient),
                    .master = slot.master.defined() ? flat(slot.master) : Flat{},
                    .rule = rule_for(i),
                    .stochastic = rounds_stochastically(slot),
                    .random = first_random};
    for (std::size_t k = 0; k < slot.state.size(); ++k) item.state[k] = flat(slot.state[k]);
    launch.items.push_back(item);
    launch.slots.push_back(i);
    plan->places.back().like = plan->first_of_rule[static_cast<std::size_t>(item.rule)];
    if (gradient.raw_data() != gradient_address(slot.parameter)) plan->gradients.push_back(gradient);
  }
  for (Launch& launch : plan->launches) launch.list = next_list();
  plan->state_places = state_places();
  return plan;
}

bool ElementwiseOptimizer::still_holds(const Plan& plan) const {
  if (plan.state_places != state_places() || !plan.gradients.empty()) return false;
  for (std::size_t g = 0; g < group_count(); ++g) {
    if (plan.groups[g] != GroupKind{kind(g), state_options(g)}) return false;
  }
  for (std::size_t i = 0; i < slots().size(); ++i) {
    const Slot& slot = slots()[i];
    const Place& place = plan.places[i];
    if (slot.parameter.raw_data() != place.parameter || slot.parameter.dtype() != place.dtype ||
        gradient_address(slot.parameter) != place.gradient || slot.step != slots()[place.like].step) {
      return false;
    }
    if (slot.master.defined() && place.gradient != nullptr && changed_by_others(slot)) follow_parameter(slot);
  }
  return true;
}

void ElementwiseOptimizer::update(const StepOptions& step_options) {
  const NoGrad no_grad;
  prepare_step(step_options);
  for (std::size_t g = 0; g < group_count(); ++g) validate(g);
  Capture* const capture = Capture::current();
  UpdateFactors* factors = nullptr;
  if (capture != nullptr || plan_ == nullptr || !still_holds(*plan_)) {
    plan_ = make_plan();
  } else {
    for (std::size_t i = 0; i < plan_->rules.size(); ++i) plan_->rules[i] = rule_of(slots()[plan_->first_of_rule[i]]);
  }
  const Plan& plan = *plan_;
  if (capture != nullptr) {
    factors = static_cast<UpdateFactors*>(capture->memory(plan.rules.size() * sizeof(UpdateFactors)));
  }
  for (const Launch& launch : plan.launches) {
    refuse_other_capture(launch.device);
    trinix::Update::Forward args{.kind = launch.kind,
                                 .items = launch.items,
                                 .rules = plan.rules,
                                 .gradient = gradient_factor_on(launch.device, step_options),
                                 .factors = factors,
                                 .list = launch.list};
    if (args.gradient.norm.defined && &launch == plan.launches.data()) args.skipped = skipped().raw();  // counted once
    run<trinix::Update>(args, launch.device);
  }
  std::vector<std::size_t> updated;
  for (const Launch& launch : plan.launches) updated.insert(updated.end(), launch.slots.begin(), launch.slots.end());
  if (capture == nullptr) return count_step(updated);
  if (updated.empty()) return;
  const auto same_groups = [this, groups = plan.groups] {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (groups[g] != GroupKind{kind(g), state_options(g)}) return false;
    }
    return true;
  };
  follow_replays(updated, same_groups, [this, firsts = plan.first_of_rule, factors](const Stream& stream) {
    std::vector<UpdateFactors> now;
    for (const std::size_t first : firsts) {
      const Slot& slot = slots()[first];
      validate(slot.group);
      now.push_back(update_factors(kind(slot.group), rule_of(slot)));
    }
    backend_of(stream.device).write(factors, now.data(), now.size() * sizeof(UpdateFactors), stream);
  });
  plan_ = nullptr;
}

}  // namespace trinix::optim
