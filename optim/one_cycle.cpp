#include <cmath>
#include <numbers>

#include <trinix/optim/detail/schedule_checks.h>
#include <trinix/optim/one_cycle.h>

namespace trinix::optim {

using detail::fail;

OneCycleSchedule::OneCycleSchedule(const OneCycleOptions& options) : options_(options) {
  check_order(options.min_lr, options.lr);
  check_rate("start_lr", options.start_lr);
  if (options.start_lr > options.lr) {
    fail<ConfigError>("schedule", "start_lr {} is above lr {}", options.start_lr, options.lr);
  }
  if (options.steps < 1) fail<ConfigError>("schedule", "a cycle of {} steps was asked for", options.steps);
  if (!(options.rise > 0 && options.rise < 1)) {
    fail<ConfigError>("schedule", "rise is {}, but must lie in (0, 1)", options.rise);
  }
}

double OneCycleSchedule::at(std::int64_t step) const {
  const OneCycleOptions& o = options_;
  const auto between = [&](double from, double to, double done) {
    if (o.straight_lines) return from + (to - from) * done;
    return to + (from - to) / 2 * (1 + std::cos(std::numbers::pi * done));
  };
  const auto now = static_cast<double>(step);
  const auto last = static_cast<double>(o.steps - 1);
  // Where the peak is need not be a whole step; a short cycle may begin with it.
  const double peak = std::max(0.0, o.rise * static_cast<double>(o.steps) - 1);
  if (now >= last) return o.min_lr;
  if (now < peak) return between(o.start_lr, o.lr, now / peak);
  return between(o.lr, o.min_lr, (now - peak) / (last - peak));
}

ScheduleState OneCycleSchedule::state() const {
  return {"one-cycle",
          {{"lr", options_.lr},
           {"start_lr", options_.start_lr},
           {"min_lr", options_.min_lr},
           {"steps", static_cast<double>(options_.steps)},
           {"rise", options_.rise},
           {"straight_lines", options_.straight_lines ? 1.0 : 0.0}}};
}

}  // namespace trinix::optim
