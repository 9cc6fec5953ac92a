#pragma once

#include <trinix/optim/schedule.h>

/// @file
/// One rise and one fall of the learning rate over the whole run.

namespace trinix::optim {

struct OneCycleOptions {
  double lr = 1e-3;             ///< the peak
  double start_lr = 4e-5;       ///< of the first step; PyTorch's is lr / 25
  double min_lr = 0;            ///< of the last step and all after it; PyTorch's is lr / 25 / 10,000
  std::int64_t steps = 0;       ///< of the cycle
  double rise = 0.3;            ///< the part of them that leads up, in (0, 1)
  bool straight_lines = false;  ///< instead of half cosines
};

/// Smith and Topin, arXiv 1708.07120. The rates of torch.optim.lr_scheduler.OneCycleLR with two phases.
class OneCycleSchedule : public Schedule {
 public:
  /// @throws ConfigError.
  explicit OneCycleSchedule(const OneCycleOptions& options);
  [[nodiscard]] double at(std::int64_t step) const override;
  [[nodiscard]] ScheduleState state() const override;

 private:
  OneCycleOptions options_;
};

}  // namespace trinix::optim
