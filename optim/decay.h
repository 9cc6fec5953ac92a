#pragma once

#include <trinix/optim/schedule.h>

/// @file
/// Learning rates that go up during a warm-up and then down by a formula. In all of them the warm-up of step t is
/// lr (t + 1) / (warmup + 1), as in nanoGPT; without one, the rates of the formula are those of the class of that name
/// in torch.optim.lr_scheduler where there is one.

namespace trinix::optim {

struct ConstantOptions {
  double lr = 1e-3;
  std::int64_t warmup = 0;  ///< steps of the way up
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
  std::int64_t warmup = 0;  ///< steps of the way up
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

/// Warm-up, then min_lr + (lr - min_lr) (1 - r)^power, where r is the part of the decay that is done.
class PolynomialSchedule : public Schedule {
 public:
  /// @throws ConfigError unless power is positive, too.
  explicit PolynomialSchedule(const DecayOptions& options, double power = 1);
  [[nodiscard]] double at(std::int64_t step) const override;
  [[nodiscard]] ScheduleState state() const override;

 private:
  DecayOptions options_;
  double power_;
};

/// The way down of WarmupStableDecay, as the share of lr - min_lr that is left where the part r of it is done.
enum class DecayShape : std::uint8_t {
  linear,  ///< 1 - r
  cosine,  ///< (1 + cos(pi r)) / 2
  sqrt     ///< 1 - sqrt(r), the best of Haegele et al., arXiv 2405.18392
};

struct WarmupStableDecayOptions {
  double lr = 1e-3;
  double min_lr = 0;
  std::int64_t warmup = 0;  ///< steps of the way up
  std::int64_t steps = 0;   ///< the step from which on the rate is min_lr; the warm-up counts
  std::int64_t decay = 0;   ///< how many of them lead down
  DecayShape shape = DecayShape::sqrt;
};

/// Warm-up, lr for a long time, then down to min_lr: the length of the run need not be known before the way down
/// begins. Hu et al., arXiv 2404.06395.
class WarmupStableDecay : public Schedule {
 public:
  explicit WarmupStableDecay(const WarmupStableDecayOptions& options);
  [[nodiscard]] double at(std::int64_t step) const override;
  [[nodiscard]] ScheduleState state() const override;

 private:
  WarmupStableDecayOptions options_;
};

struct StepDecayOptions {
  double lr = 1e-3;
  double min_lr = 0;        ///< the rate falls no lower
  std::int64_t warmup = 0;  ///< steps of the way up
  std::int64_t every = 1;   ///< steps between two falls, counted from the end of the warm-up
  double gamma = 0.1;       ///< what one fall multiplies with, in (0, 1]
};

/// Warm-up, then max(min_lr, lr gamma^k), where k counts the falls so far.
class StepSchedule : public Schedule {
 public:
  explicit StepSchedule(const StepDecayOptions& options);
  [[nodiscard]] double at(std::int64_t step) const override;
  [[nodiscard]] ScheduleState state() const override;

 private:
  StepDecayOptions options_;
};

}  // namespace trinix::optim
