#pragma once

#include <trinix/optim/schedule.h>

/// @file
/// Schedules made of schedules.

namespace trinix::optim {

/// One after the other. Each part counts its steps from 0, as in torch.optim.lr_scheduler.SequentialLR.
class SequentialSchedule : public Schedule {
 public:
  /// `milestones` are the steps at which the second part begins, the third, and so on: one less than parts, rising.
  /// @throws ConfigError.
  SequentialSchedule(std::vector<std::unique_ptr<Schedule>> parts, std::vector<std::int64_t> milestones);
  [[nodiscard]] double at(std::int64_t step) const override;
  [[nodiscard]] ScheduleState state() const override;
  /// Tells every part.
  void observe(double metric) override;
  void remember(const ScheduleState& saved) override;

 private:
  std::vector<std::unique_ptr<Schedule>> parts_;
  std::vector<std::int64_t> milestones_;
};

/// All at once: lr times what each part says, so that a part with `.lr = 1` is a factor, as the schedulers are that
/// torch.optim.lr_scheduler.ChainedScheduler chains.
class ChainedSchedule : public Schedule {
 public:
  /// @throws ConfigError for no parts.
  ChainedSchedule(double lr, std::vector<std::unique_ptr<Schedule>> parts);
  [[nodiscard]] double at(std::int64_t step) const override;
  [[nodiscard]] ScheduleState state() const override;
  /// Tells every part.
  void observe(double metric) override;
  void remember(const ScheduleState& saved) override;

 private:
  double lr_;
  std::vector<std::unique_ptr<Schedule>> parts_;
};

}  // namespace trinix::optim
