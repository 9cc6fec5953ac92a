#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

/// @file
/// Learning rates over time. A schedule is a pure function of the step, so resuming needs no more than the step:
/// `optimizer.set_lr(schedule.at(step))`.

namespace trinix::optim {

/// A schedule written down: what kind it is and its numbers by name. A checkpoint holds it to notice, when a run is
/// resumed, that the schedule has changed.
struct ScheduleState {
  std::string kind;
  std::vector<std::pair<std::string, double>> values;

  friend bool operator==(const ScheduleState&, const ScheduleState&) = default;
};

class Schedule {
 public:
  virtual ~Schedule() = default;
  /// The learning rate of step `step`, counted from 0.
  [[nodiscard]] virtual double at(std::int64_t step) const = 0;
  [[nodiscard]] virtual ScheduleState state() const = 0;
};

/// The schedule that state() described. @throws ConfigError for an unknown kind or a value that is missing.
[[nodiscard]] std::unique_ptr<Schedule> make_schedule(const ScheduleState& state);

struct ConstantOptions {
  double lr = 1e-3;
  std::int64_t warmup = 0;  ///< steps that lead up to it, lr (step + 1) / (warmup + 1)
};

class ConstantSchedule : public Schedule {
 public:
  /// @throws ConfigError; as the other constructors here.
  explicit ConstantSchedule(const ConstantOptions& options);
  [[nodiscard]] double at(std::int64_t step) const override;
  [[nodiscard]] ScheduleState state() const override;

 private:
  ConstantOptions options_;
};

struct DecayOptions {
  double lr = 1e-3;
  double min_lr = 0;
  std::int64_t warmup = 0;  ///< steps of the way up, lr (step + 1) / (warmup + 1)
  std::int64_t steps = 0;   ///< the step from which on the rate is min_lr; the warm-up counts
};

/// Warm-up, then a straight line from lr to min_lr.
class LinearSchedule : public Schedule {
 public:
  explicit LinearSchedule(const DecayOptions& options);
  [[nodiscard]] double at(std::int64_t step) const override;
  [[nodiscard]] ScheduleState state() const override;

 private:
  DecayOptions options_;
};

/// Warm-up, then half a cosine from lr to min_lr: exactly nanoGPT's. Loshchilov and Hutter, arXiv 1608.03983.
class CosineWithWarmup : public Schedule {
 public:
  explicit CosineWithWarmup(const DecayOptions& options);
  [[nodiscard]] double at(std::int64_t step) const override;
  [[nodiscard]] ScheduleState state() const override;

 private:
  DecayOptions options_;
};

}  // namespace trinix::optim
