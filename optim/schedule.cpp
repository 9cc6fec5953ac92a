// Schedules from what was written down of them.
#include <map>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/optim/decay.h>
#include <trinix/optim/detail/schedule_checks.h>
#include <trinix/optim/joined_schedules.h>
#include <trinix/optim/one_cycle.h>
#include <trinix/optim/plateau.h>
#include <trinix/optim/schedule.h>

namespace trinix::optim {

using detail::fail;

namespace {

const double* find(const ScheduleState& state, const std::string& name) {
  for (const auto& [key, number] : state.values) {
    if (key == name) return &number;
  }
  return nullptr;
}

std::int64_t count(const ScheduleState& state, const std::string& name) {
  return static_cast<std::int64_t>(state.at(name));
}

DecayOptions decay_of(const ScheduleState& s) {
  return {.lr = s.at("lr"), .min_lr = s.at("min_lr"), .warmup = count(s, "warmup"), .steps = count(s, "steps")};
}

std::vector<std::unique_ptr<Schedule>> parts_of(const ScheduleState& state) {
  std::vector<std::unique_ptr<Schedule>> parts;
  for (const ScheduleState& part : state.parts) parts.push_back(make_schedule(part));
  return parts;
}

using Made = std::unique_ptr<Schedule>;

Made constant(const ScheduleState& s) {
  return std::make_unique<ConstantSchedule>(ConstantOptions{.lr = s.at("lr"), .warmup = count(s, "warmup")});
}

Made linear(const ScheduleState& s) { return std::make_unique<LinearSchedule>(decay_of(s)); }

Made cosine(const ScheduleState& s) { return std::make_unique<CosineWithWarmup>(decay_of(s)); }

Made polynomial(const ScheduleState& s) { return std::make_unique<PolynomialSchedule>(decay_of(s), s.at("power")); }

Made wsd(const ScheduleState& s) {
  const std::int64_t shape = count(s, "shape");
  if (shape < 0 || shape > 2) fail<ConfigError>("schedule", "a wsd schedule of the shape {} is unknown", shape);
  const DecayOptions o = decay_of(s);
  return std::make_unique<WarmupStableDecay>(WarmupStableDecayOptions{.lr = o.lr,
                                                                      .min_lr = o.min_lr,
                                                                      .warmup = o.warmup,
                                                                      .steps = o.steps,
                                                                      .decay = count(s, "decay"),
                                                                      .shape = static_cast<DecayShape>(shape)});
}

Made step(const ScheduleState& s) {
  return std::make_unique<StepSchedule>(StepDecayOptions{.lr = s.at("lr"),
                                                         .min_lr = s.at("min_lr"),
                                                         .warmup = count(s, "warmup"),
                                                         .every = count(s, "every"),
                                                         .gamma = s.at("gamma")});
}

Made one_cycle(const ScheduleState& s) {
  return std::make_unique<OneCycleSchedule>(OneCycleOptions{.lr = s.at("lr"),
                                                            .start_lr = s.at("start_lr"),
                                                            .min_lr = s.at("min_lr"),
                                                            .steps = count(s, "steps"),
                                                            .rise = s.at("rise"),
                                                            .straight_lines = s.at("straight_lines") != 0});
}

Made plateau(const ScheduleState& s) {
  auto made = std::make_unique<PlateauSchedule>(PlateauOptions{.lr = s.at("lr"),
                                                               .warmup = count(s, "warmup"),
                                                               .factor = s.at("factor"),
                                                               .patience = count(s, "patience"),
                                                               .threshold = s.at("threshold"),
                                                               .cooldown = count(s, "cooldown"),
                                                               .min_lr = s.at("min_lr"),
                                                               .eps = s.at("eps")});
  made->remember(s);
  return made;
}

Made sequential(const ScheduleState& s) {
  std::vector<std::int64_t> milestones;
  for (std::size_t i = 0; i < s.values.size(); ++i) milestones.push_back(count(s, milestone_name(i)));
  return std::make_unique<SequentialSchedule>(parts_of(s), std::move(milestones));
}

Made chained(const ScheduleState& s) { return std::make_unique<ChainedSchedule>(s.at("lr"), parts_of(s)); }

}  // namespace

double ScheduleState::at(const std::string& name) const {
  const double* found = find(*this, name);
  if (found == nullptr) fail<ConfigError>("schedule", "the description of a {} schedule lacks '{}'", kind, name);
  return *found;
}

double ScheduleState::value_or(const std::string& name, double otherwise) const {
  const double* found = find(*this, name);
  return found == nullptr ? otherwise : *found;
}

std::unique_ptr<Schedule> make_schedule(const ScheduleState& state) {
  static const std::map<std::string, Made (*)(const ScheduleState&)> kinds = {
      {"constant", constant}, {"linear", linear},
      {"cosine", cosine},     {"polynomial", polynomial},
      {"wsd", wsd},           {"step", step},
      {"plateau", plateau},   {"one-cycle", one_cycle},
      {"chained", chained},   {"sequential", sequential}};
  const auto found = kinds.find(state.kind);
  if (found != kinds.end()) return found->second(state);
  std::string names;
  for (const auto& [name, make] : kinds) names += (names.empty() ? "" : ", ") + name;
  fail<ConfigError>("schedule", "unknown kind '{}': one of {}", state.kind, names);
}

}  // namespace trinix::optim
