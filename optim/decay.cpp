#include <algorithm>
#include <cmath>
#include <numbers>

#include <trinix/optim/decay.h>
#include <trinix/optim/detail/schedule_checks.h>

namespace trinix::optim {

using detail::fail;

namespace {

void check(const DecayOptions& o) {
  check_order(o.min_lr, o.lr);
  check_count("warmup", o.warmup);
  if (o.steps < o.warmup) {
    fail<ConfigError>("schedule", "the decay ends with step {}, before the warm-up of {} steps", o.steps, o.warmup);
  }
}

ScheduleState describe(const char* kind, const DecayOptions& o) {
  return {kind,
          {{"lr", o.lr},
           {"min_lr", o.min_lr},
           {"warmup", static_cast<double>(o.warmup)},
           {"steps", static_cast<double>(o.steps)}}};
}

/// `coefficient(r)` falls from 1 to 0 while r, the part of the decay that is done, goes from 0 to 1.
template <class F>
double decayed(const DecayOptions& o, std::int64_t step, F coefficient) {
  if (step < o.warmup) return warming_up(o.lr, step, o.warmup);
  if (step > o.steps || o.steps == o.warmup) return o.min_lr;
  const double done = static_cast<double>(step - o.warmup) / static_cast<double>(o.steps - o.warmup);
  return o.min_lr + coefficient(done) * (o.lr - o.min_lr);
}

double half_cosine(double done) { return 0.5 * (1 + std::cos(std::numbers::pi * done)); }

}  // namespace

ConstantSchedule::ConstantSchedule(const ConstantOptions& options) : options_(options) {
  check_rate("lr", options.lr);
  check_count("warmup", options.warmup);
}

double ConstantSchedule::at(std::int64_t step) const {
  return step < options_.warmup ? warming_up(options_.lr, step, options_.warmup) : options_.lr;
}

ScheduleState ConstantSchedule::state() const {
  return {"constant", {{"lr", options_.lr}, {"warmup", static_cast<double>(options_.warmup)}}};
}

LinearSchedule::LinearSchedule(const DecayOptions& options) : options_(options) { check(options); }

double LinearSchedule::at(std::int64_t step) const {
  return decayed(options_, step, [](double done) { return 1 - done; });
}

ScheduleState LinearSchedule::state() const { return describe("linear", options_); }

CosineWithWarmup::CosineWithWarmup(const DecayOptions& options) : options_(options) { check(options); }

double CosineWithWarmup::at(std::int64_t step) const { return decayed(options_, step, half_cosine); }

ScheduleState CosineWithWarmup::state() const { return describe("cosine", options_); }

PolynomialSchedule::PolynomialSchedule(const DecayOptions& options, double power) : options_(options), power_(power) {
  check(options);
  if (!(power > 0) || std::isinf(power)) fail<ConfigError>("schedule", "power is {}, but must be positive", power);
}

double PolynomialSchedule::at(std::int64_t step) const {
  return decayed(options_, step, [this](double done) { return std::pow(1 - done, power_); });
}

ScheduleState PolynomialSchedule::state() const {
  ScheduleState state = describe("polynomial", options_);
  state.values.emplace_back("power", power_);
  return state;
}

WarmupStableDecay::WarmupStableDecay(const WarmupStableDecayOptions& options) : options_(options) {
  check_order(options.min_lr, options.lr);
  check_count("warmup", options.warmup);
  check_count("decay", options.decay);
  if (options.steps < options.warmup + options.decay) {
    fail<ConfigError>("schedule", "{} steps have no room for {} of warm-up and {} of decay", options.steps,
                      options.warmup, options.decay);
  }
}

double WarmupStableDecay::at(std::int64_t step) const {
  const WarmupStableDecayOptions& o = options_;
  if (step < o.warmup) return warming_up(o.lr, step, o.warmup);
  if (step >= o.steps) return o.min_lr;
  const std::int64_t begin = o.steps - o.decay;
  if (step < begin) return o.lr;
  const double done = static_cast<double>(step - begin) / static_cast<double>(o.decay);
  double left = 1 - done;
  if (o.shape == DecayShape::cosine) left = half_cosine(done);
  if (o.shape == DecayShape::sqrt) left = 1 - std::sqrt(done);
  return o.min_lr + left * (o.lr - o.min_lr);
}

ScheduleState WarmupStableDecay::state() const {
  ScheduleState state = describe(
      "wsd", {.lr = options_.lr, .min_lr = options_.min_lr, .warmup = options_.warmup, .steps = options_.steps});
  state.values.emplace_back("decay", static_cast<double>(options_.decay));
  state.values.emplace_back("shape", static_cast<double>(options_.shape));
  return state;
}

StepSchedule::StepSchedule(const StepDecayOptions& options) : options_(options) {
  check_order(options.min_lr, options.lr);
  check_count("warmup", options.warmup);
  if (options.every < 1) {
    fail<ConfigError>("schedule", "there are {} steps between two falls, but must be at least 1", options.every);
  }
  if (!(options.gamma > 0 && options.gamma <= 1)) {
    fail<ConfigError>("schedule", "gamma is {}, but must lie in (0, 1]", options.gamma);
  }
}

double StepSchedule::at(std::int64_t step) const {
  const StepDecayOptions& o = options_;
  if (step < o.warmup) return warming_up(o.lr, step, o.warmup);
  const std::int64_t falls = (step - o.warmup) / o.every;
  return std::max(o.min_lr, o.lr * std::pow(o.gamma, static_cast<double>(falls)));
}

ScheduleState StepSchedule::state() const {
  return {"step",
          {{"lr", options_.lr},
           {"min_lr", options_.min_lr},
           {"warmup", static_cast<double>(options_.warmup)},
           {"every", static_cast<double>(options_.every)},
           {"gamma", options_.gamma}}};
}

}  // namespace trinix::optim
