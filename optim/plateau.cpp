#include <algorithm>
#include <cmath>

#include <trinix/optim/plateau.h>
#include <trinix/optim/schedule_checks.h>

namespace trinix::optim {

using detail::fail;

PlateauSchedule::PlateauSchedule(const PlateauOptions& options) : options_(options), memory_{.rate = options.lr} {
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
  return memory_.rate * risen;
}

void PlateauSchedule::observe(double metric) {
  Memory& m = memory_;
  const bool progress = std::isinf(m.best) ? metric < m.best : metric < m.best * (1 - options_.threshold);
  if (progress) m.best = metric;
  m.bad = progress ? 0 : m.bad + 1;
  if (m.cooling > 0) {
    --m.cooling;
    m.bad = 0;
  }
  if (m.bad <= options_.patience) return;
  const double lower = std::max(m.rate * options_.factor, options_.min_lr);
  if (m.rate - lower > options_.eps) m.rate = lower;
  m.cooling = options_.cooldown;
  m.bad = 0;
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
                       {"rate", memory_.rate},
                       {"bad", static_cast<double>(memory_.bad)},
                       {"cooling", static_cast<double>(memory_.cooling)}}};
  // Infinity, before the first observation, has no place in JSON.
  if (std::isfinite(memory_.best)) state.values.emplace_back("best", memory_.best);
  return state;
}

}  // namespace trinix::optim
