#include <algorithm>

#include <trinix/optim/detail/schedule_checks.h>
#include <trinix/optim/joined_schedules.h>

namespace trinix::optim {

using detail::fail;

namespace {

using Parts = std::vector<std::unique_ptr<Schedule>>;

void check_parts(const Parts& parts) {
  const bool whole = std::ranges::none_of(parts, [](const auto& part) { return part == nullptr; });
  if (parts.empty() || !whole) fail<ConfigError>("schedule", "a joined schedule needs parts, and all of them");
}

std::vector<ScheduleState> states_of(const Parts& parts) {
  std::vector<ScheduleState> states;
  for (const auto& part : parts) states.push_back(part->state());
  return states;
}

void remember_all(const Parts& parts, const char* kind, const ScheduleState& saved) {
  if (saved.kind != kind) return;
  for (std::size_t i = 0; i < std::min(parts.size(), saved.parts.size()); ++i) parts[i]->remember(saved.parts[i]);
}

}  // namespace

SequentialSchedule::SequentialSchedule(std::vector<std::unique_ptr<Schedule>> parts,
                                       std::vector<std::int64_t> milestones)
    : parts_(std::move(parts)), milestones_(std::move(milestones)) {
  check_parts(parts_);
  if (milestones_.size() + 1 != parts_.size()) {
    fail<ConfigError>("schedule", "{} parts need {} milestones between them, not {}", parts_.size(), parts_.size() - 1,
                      milestones_.size());
  }
  for (std::size_t i = 0; i < milestones_.size(); ++i) {
    if (milestones_[i] > (i == 0 ? 0 : milestones_[i - 1])) continue;
    fail<ConfigError>("schedule", "the milestones must be positive and rise, but number {} is {}", i, milestones_[i]);
  }
}

double SequentialSchedule::at(std::int64_t step) const {
  const auto next = std::ranges::upper_bound(milestones_, step);
  const std::int64_t begin = next == milestones_.begin() ? 0 : *std::prev(next);
  return parts_[static_cast<std::size_t>(next - milestones_.begin())]->at(step - begin);
}

ScheduleState SequentialSchedule::state() const {
  ScheduleState state{"sequential", {}, states_of(parts_)};
  for (std::size_t i = 0; i < milestones_.size(); ++i) {
    state.values.emplace_back(milestone_name(i), static_cast<double>(milestones_[i]));
  }
  return state;
}

void SequentialSchedule::observe(double metric) {
  for (const auto& part : parts_) part->observe(metric);
}

void SequentialSchedule::remember(const ScheduleState& saved) { remember_all(parts_, "sequential", saved); }

ChainedSchedule::ChainedSchedule(double lr, std::vector<std::unique_ptr<Schedule>> parts)
    : lr_(lr), parts_(std::move(parts)) {
  check_rate("lr", lr);
  check_parts(parts_);
}

double ChainedSchedule::at(std::int64_t step) const {
  double rate = lr_;
  for (const auto& part : parts_) rate *= part->at(step);
  return rate;
}

ScheduleState ChainedSchedule::state() const { return {"chained", {{"lr", lr_}}, states_of(parts_)}; }

void ChainedSchedule::observe(double metric) {
  for (const auto& part : parts_) part->observe(metric);
}

void ChainedSchedule::remember(const ScheduleState& saved) { remember_all(parts_, "chained", saved); }

}  // namespace trinix::optim
