#pragma once

#include <limits>

#include <trinix/optim/schedule.h>

/// @file
/// A learning rate that falls when training gets no further.

namespace trinix::optim {

/// Names and defaults of torch.optim.lr_scheduler.ReduceLROnPlateau in its modes "min" and "rel".
struct PlateauOptions {
  double lr = 1e-3;
  std::int64_t warmup = 0;     ///< steps of the way up, lr (t + 1) / (warmup + 1)
  double factor = 0.1;         ///< what one fall multiplies with, in (0, 1)
  std::int64_t patience = 10;  ///< observations without progress that are let pass
  double threshold = 1e-4;     ///< progress is a metric below best (1 - threshold)
  std::int64_t cooldown = 0;   ///< observations after a fall during which none is counted
  double min_lr = 0;           ///< the rate falls no lower
  double eps = 1e-8;           ///< a fall by no more than this is left out
};

/// Keeps a rate until observe() was told too often that the metric, which shall be small, has made no progress.
class PlateauSchedule : public Schedule {
 public:
  /// @throws ConfigError.
  explicit PlateauSchedule(const PlateauOptions& options);
  [[nodiscard]] double at(std::int64_t step) const override;
  [[nodiscard]] ScheduleState state() const override;
  /// A metric that is not a number is no progress.
  void observe(double metric) override;
  void remember(const ScheduleState& saved) override;

 private:
  PlateauOptions options_;
  double rate_;
  double best_ = std::numeric_limits<double>::infinity();
  std::int64_t bad_ = 0;      // observations without progress in a row
  std::int64_t cooling_ = 0;  // observations left of the cooldown
};

}  // namespace trinix::optim
