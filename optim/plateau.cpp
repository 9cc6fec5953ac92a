#include <algorithm>
#include <cmath>

#include <trinix/optim/detail/schedule_checks.h>
#include <trinix/optim/plateau.h>

namespace trinix::optim {

using detail::fail;

PlateauSchedule::PlateauSchedule(const PlateauOptions& options) : options_(options), rate_(options.lr) {
  check_order(options.min_lr, options.lr);
  check_rate("threshold", options.threshold);
  check_rate("eps", options.eps);
  check_count("warmup", options.warmup);
  check_count("patience", options.patience);
  check_count("cooldown", options.cooldown);
  if (!(options.factor > 0 && options.factor < 1)) {
    fail<ConfigError>("schedule", "factor is {}, but must lie in (0, 1)", options.factor);
  }
}

double PlateauSchedule::at(std::int64_t step) const {
  const double risen = step < options_.warmup ? warming_up(1, step, options_.warmup) : 1;
  return rate_ * risen;
}

void PlateauSchedule::observe(double metric) {
  const bool progress = std::isinf(best_) ? metric < best_ : metric < best_ * (1 - options_.threshold);
  if (progress) best_ = metric;
  bad_ = progress ? 0 : bad_ + 1;
  if (cooling_ > 0) {
    --cooling_;
    bad_ = 0;
  }
  if (bad_ <= options_.patience) return;
  const double lower = std::max(rate_ * options_.factor, options_.min_lr);
  if (rate_ - lower > options_.eps) rate_ = lower;
  cooling_ = options_.cooldown;
  bad_ = 0;
}

ScheduleState PlateauSchedule::state() const {
  ScheduleState state{"plateau",
                      {{"lr", options_.lr},
                       {"warmup", static_cast<double>(options_.warmup)},
                       {"factor", options_.factor},
                       {"patience", static_cast<double>(options_.patience)},
                       {"threshold", options_.threshold},
                       {"cooldown", static_cast<double>(options_.cooldown)},
                       {"min_lr", options_.min_lr},
                       {"eps", options_.eps},
                       {"rate", rate_},
                       {"bad", static_cast<double>(bad_)},
                       {"cooling", static_cast<double>(cooling_)}}};
  // Infinity, before the first observation, has no place in JSON.
  if (std::isfinite(best_)) state.values.emplace_back("best", best_);
  return state;
}

void PlateauSchedule::remember(const ScheduleState& saved) {
  if (saved.kind != "plateau") return;
  rate_ = saved.at("rate");
  best_ = saved.value_or("best", std::numeric_limits<double>::infinity());
  bad_ = static_cast<std::int64_t>(saved.at("bad"));
  cooling_ = static_cast<std::int64_t>(saved.at("cooling"));
}

}  // namespace trinix::optim
