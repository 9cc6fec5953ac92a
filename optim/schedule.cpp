#include <cmath>
#include <numbers>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/optim/schedule.h>

namespace trinix::optim {

using detail::fail;

namespace {

void check_rate(const char* what, double value) {
  if (!(value >= 0) || std::isinf(value)) {
    fail<ConfigError>("schedule", "{} is {}, but must be a number of at least 0", what, value);
  }
}

void check_warmup(std::int64_t warmup) {
  if (warmup < 0) fail<ConfigError>("schedule", "warmup is {}, but must be at least 0", warmup);
}

void check(const DecayOptions& o) {
  check_rate("lr", o.lr);
  check_rate("min_lr", o.min_lr);
  check_warmup(o.warmup);
  if (o.min_lr > o.lr) fail<ConfigError>("schedule", "min_lr {} is above lr {}", o.min_lr, o.lr);
  if (o.steps < o.warmup) {
    fail<ConfigError>("schedule", "the decay ends with step {}, before the warm-up of {} steps", o.steps, o.warmup);
  }
}

double warming_up(double lr, std::int64_t step, std::int64_t warmup) {
  return lr * static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
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

}  // namespace

ConstantSchedule::ConstantSchedule(const ConstantOptions& options) : options_(options) {
  check_rate("lr", options.lr);
  check_warmup(options.warmup);
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

double CosineWithWarmup::at(std::int64_t step) const {
  return decayed(options_, step, [](double done) { return 0.5 * (1 + std::cos(std::numbers::pi * done)); });
}

ScheduleState CosineWithWarmup::state() const { return describe("cosine", options_); }

std::unique_ptr<Schedule> make_schedule(const ScheduleState& state) {
  const auto value = [&](const char* name) {
    for (const auto& [key, number] : state.values) {
      if (key == name) return number;
    }
    fail<ConfigError>("schedule", "the description of a {} schedule lacks '{}'", state.kind, name);
  };
  const auto steps = [&](const char* name) { return static_cast<std::int64_t>(value(name)); };
  if (state.kind == "constant") {
    return std::make_unique<ConstantSchedule>(ConstantOptions{.lr = value("lr"), .warmup = steps("warmup")});
  }
  if (state.kind != "linear" && state.kind != "cosine") {
    fail<ConfigError>("schedule", "unknown kind '{}': one of constant, linear, cosine", state.kind);
  }
  const DecayOptions options{
      .lr = value("lr"), .min_lr = value("min_lr"), .warmup = steps("warmup"), .steps = steps("steps")};
  if (state.kind == "linear") return std::make_unique<LinearSchedule>(options);
  return std::make_unique<CosineWithWarmup>(options);
}

}  // namespace trinix::optim
