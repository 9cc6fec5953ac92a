#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

/// @file
/// Learning rates over time: `optimizer.set_lr(schedule.at(step))` before each step. The rates themselves are in
/// optim/decay.h, optim/one_cycle.h and optim/plateau.h; optim/joined_schedules.h puts them together.

namespace trinix::optim {

/// A schedule written down: what kind it is, its numbers by name, and the schedules that it consists of. A checkpoint
/// holds it, to go on with it and to notice that a resumed run asks for another.
struct ScheduleState {
  std::string kind;
  std::vector<std::pair<std::string, double>> values = {};
  std::vector<ScheduleState> parts = {};

  /// The value of that name. @throws ConfigError when there is none.
  [[nodiscard]] double at(const std::string& name) const;
  /// The value of that name, or `otherwise`.
  [[nodiscard]] double value_or(const std::string& name, double otherwise) const;

  friend bool operator==(const ScheduleState&, const ScheduleState&) = default;
};

/// Most schedules are a pure function of the step, so that going on needs no more than the step. One that follows what
/// it is told (PlateauSchedule) has a memory, which state() holds too.
class Schedule {
 public:
  virtual ~Schedule() = default;
  /// The learning rate of step `step`, counted from 0.
  [[nodiscard]] virtual double at(std::int64_t step) const = 0;
  /// What make_schedule() needs to make an equal one.
  [[nodiscard]] virtual ScheduleState state() const = 0;
  /// Tells how well training goes, for example the validation loss. Does nothing to schedules without a memory.
  virtual void observe(double /*metric*/) {}
  /// Takes over the memory of another schedule of this kind, whose options may differ. What does not fit is passed
  /// over.
  virtual void remember(const ScheduleState& /*saved*/) {}
};

/// The schedule that state() described, memory included. @throws ConfigError for an unknown kind or a value that is
/// missing.
[[nodiscard]] std::unique_ptr<Schedule> make_schedule(const ScheduleState& state);

}  // namespace trinix::optim
