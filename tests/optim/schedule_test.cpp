#include "support/errors.h"
#include "support/golden.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/core/error.h>
#include <trinix/optim/decay.h>
#include <trinix/optim/joined_schedules.h>
#include <trinix/optim/one_cycle.h>
#include <trinix/optim/plateau.h>

namespace trinix::optim {
namespace {

TEST(CosineWithWarmup, IsNanoGpts) {
  const CosineWithWarmup schedule({.lr = 1e-3, .min_lr = 1e-4, .warmup = 100, .steps = 5000});
  EXPECT_DOUBLE_EQ(schedule.at(0), 1e-3 * 1 / 101);
  EXPECT_DOUBLE_EQ(schedule.at(99), 1e-3 * 100 / 101);
  EXPECT_DOUBLE_EQ(schedule.at(100), 1e-3);
  EXPECT_DOUBLE_EQ(schedule.at(2550), 1e-4 + 0.5 * 9e-4);
  EXPECT_NEAR(schedule.at(1325), 1e-4 + 0.5 * (1 + std::sqrt(0.5)) * 9e-4, 1e-15);
  EXPECT_DOUBLE_EQ(schedule.at(5000), 1e-4);
  EXPECT_DOUBLE_EQ(schedule.at(1000000), 1e-4);
}

TEST(LinearSchedule, FallsInAStraightLine) {
  const LinearSchedule schedule({.lr = 1, .min_lr = 0.5, .warmup = 4, .steps = 14});
  EXPECT_DOUBLE_EQ(schedule.at(0), 0.2);
  EXPECT_DOUBLE_EQ(schedule.at(4), 1);
  EXPECT_DOUBLE_EQ(schedule.at(9), 0.75);
  EXPECT_DOUBLE_EQ(schedule.at(14), 0.5);
  EXPECT_DOUBLE_EQ(schedule.at(15), 0.5);
}

TEST(ConstantSchedule, StaysAfterTheWarmup) {
  const ConstantSchedule schedule({.lr = 2, .warmup = 1});
  EXPECT_DOUBLE_EQ(schedule.at(0), 1);
  EXPECT_DOUBLE_EQ(schedule.at(1), 2);
  EXPECT_DOUBLE_EQ(schedule.at(1000), 2);
}

TEST(Schedule, AWarmupAloneNeedsNoDecay) {
  const CosineWithWarmup schedule({.lr = 1, .min_lr = 0.25, .warmup = 3, .steps = 3});
  EXPECT_DOUBLE_EQ(schedule.at(2), 0.75);
  EXPECT_DOUBLE_EQ(schedule.at(3), 0.25);
}

template <class... Parts>
std::vector<std::unique_ptr<Schedule>> list(Parts... parts) {
  std::vector<std::unique_ptr<Schedule>> all;
  (all.push_back(std::make_unique<Parts>(std::move(parts))), ...);
  return all;
}

constexpr std::int64_t kSteps = 40;

void expect_rates(const Schedule& schedule, const std::string& name) {
  const std::vector<double> wanted = trinix::testing::golden("schedules").at(name).to_vector<double>();
  ASSERT_EQ(wanted.size(), kSteps);
  // PyTorch gets from step to step by a factor, whose roundings add up.
  for (std::int64_t i = 0; i < kSteps; ++i) {
    EXPECT_NEAR(schedule.at(i), wanted[static_cast<std::size_t>(i)], 1e-14) << name << " at step " << i;
  }
}

TEST(Schedule, RatesArePyTorchs) {
  constexpr double lr = 0.3;
  expect_rates(LinearSchedule({.lr = lr, .min_lr = 0.1 * lr, .steps = 30}), "linear");
  expect_rates(CosineWithWarmup({.lr = lr, .min_lr = 0.03, .steps = kSteps - 1}), "cosine");
  expect_rates(PolynomialSchedule({.lr = lr, .steps = 30}, 2.5), "polynomial");
  expect_rates(StepSchedule({.lr = lr, .every = 9, .gamma = 0.4}), "step");
  const OneCycleOptions cycle{.lr = lr, .start_lr = lr / 25, .min_lr = lr / 25 / 1e4, .steps = kSteps};
  expect_rates(OneCycleSchedule(cycle), "one_cycle");
  OneCycleOptions lines = cycle;
  lines.rise = 0.25;
  lines.straight_lines = true;
  expect_rates(OneCycleSchedule(lines), "one_cycle_lines");
  expect_rates(SequentialSchedule(list(ConstantSchedule({.lr = lr}), CosineWithWarmup({.lr = lr, .steps = 10}),
                                       StepSchedule({.lr = lr, .every = 4, .gamma = 0.5})),
                                  {5, 15}),
               "sequential");
  expect_rates(ChainedSchedule(lr, list(LinearSchedule({.lr = 1, .min_lr = 0.2, .steps = 25}),
                                        StepSchedule({.lr = 1, .every = 7, .gamma = 0.5}))),
               "chained");
}

TEST(PlateauSchedule, RatesArePyTorchsWhereverItIsSavedAndLoaded) {
  const StateDict golden = trinix::testing::golden("schedules");
  const auto metrics = golden.at("metrics").to_vector<double>();
  const auto expect = [&](const PlateauOptions& options, const std::string& name) {
    const auto wanted = golden.at(name).to_vector<double>();
    std::unique_ptr<Schedule> schedule = std::make_unique<PlateauSchedule>(options);
    for (std::int64_t i = 0; i < kSteps; ++i) {
      EXPECT_NEAR(schedule->at(i), wanted[static_cast<std::size_t>(i)], 1e-15) << name << " at step " << i;
      schedule->observe(metrics[static_cast<std::size_t>(i)]);
      const ScheduleState state = schedule->state();
      schedule = make_schedule(state);
      EXPECT_EQ(schedule->state(), state);
    }
    EXPECT_LT(schedule->at(kSteps), options.lr);
  };
  expect({.lr = 0.3, .factor = 0.5, .patience = 2, .cooldown = 1, .min_lr = 0.05}, "plateau");
  expect({.lr = 0.3, .patience = 0, .threshold = 0.1, .min_lr = 1e-3, .eps = 1e-2}, "plateau_strict");
}

TEST(PlateauSchedule, TheWarmupScalesWhatItSays) {
  PlateauSchedule schedule({.lr = 1, .warmup = 3, .factor = 0.5, .patience = 0});
  EXPECT_DOUBLE_EQ(schedule.at(0), 0.25);
  schedule.observe(1);
  schedule.observe(1);
  EXPECT_DOUBLE_EQ(schedule.at(1), 0.25);
  EXPECT_DOUBLE_EQ(schedule.at(3), 0.5);
}

TEST(WarmupStableDecay, HasThreeParts) {
  WarmupStableDecayOptions o{.lr = 1, .min_lr = 0.2, .warmup = 3, .steps = 20, .decay = 4, .shape = DecayShape::linear};
  const auto at = [&](std::int64_t step) { return WarmupStableDecay(o).at(step); };
  EXPECT_DOUBLE_EQ(at(0), 0.25);
  EXPECT_DOUBLE_EQ(at(3), 1);
  EXPECT_DOUBLE_EQ(at(16), 1);
  EXPECT_DOUBLE_EQ(at(17), 0.8);
  EXPECT_DOUBLE_EQ(at(18), 0.6);
  EXPECT_DOUBLE_EQ(at(20), 0.2);
  EXPECT_DOUBLE_EQ(at(99), 0.2);
  o.shape = DecayShape::sqrt;
  EXPECT_DOUBLE_EQ(at(17), 0.6);  // half of the way down at a quarter of its steps
  o.shape = DecayShape::cosine;
  EXPECT_DOUBLE_EQ(at(18), 0.6);
  EXPECT_DOUBLE_EQ(at(17), 0.2 + 0.8 * 0.5 * (1 + std::sqrt(0.5)));
  o.decay = 0;
  EXPECT_DOUBLE_EQ(at(19), 1);
  EXPECT_DOUBLE_EQ(at(20), 0.2);
}

TEST(StepSchedule, FallsNoLowerThanItsLeast) {
  const StepSchedule schedule({.lr = 1, .min_lr = 0.2, .warmup = 1, .every = 2, .gamma = 0.5});
  const double wanted[] = {0.5, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2};
  for (std::int64_t i = 0; i < 10; ++i) EXPECT_DOUBLE_EQ(schedule.at(i), wanted[i]) << i;
}

TEST(OneCycleSchedule, ShortCyclesAndStepsBeyondTheEndAreDefined) {
  for (const std::int64_t steps : {1, 2, 3, 4}) {
    const OneCycleSchedule schedule({.lr = 1, .start_lr = 0.5, .min_lr = 0.25, .steps = steps});
    for (std::int64_t i = 0; i < 9; ++i) {
      EXPECT_GE(schedule.at(i), 0.25);
      EXPECT_LE(schedule.at(i), 1);
    }
    EXPECT_EQ(schedule.at(steps - 1), 0.25);
    EXPECT_EQ(schedule.at(8), 0.25);
  }
}

TEST(Schedule, ComesBackFromItsState) {
  const DecayOptions options{.lr = 0.1, .min_lr = 0.01, .warmup = 7, .steps = 50};
  auto all = list(ConstantSchedule({.lr = 0.3, .warmup = 5}), LinearSchedule(options), CosineWithWarmup(options),
                  PolynomialSchedule(options, 1.7),
                  WarmupStableDecay({.lr = 0.1, .min_lr = 0.01, .warmup = 7, .steps = 50, .decay = 20}),
                  StepSchedule({.lr = 0.1, .min_lr = 0.01, .warmup = 7, .every = 11, .gamma = 0.3}),
                  OneCycleSchedule({.lr = 0.1, .min_lr = 0.01, .steps = 50}));
  std::vector<std::int64_t> milestones;
  for (std::int64_t i = 1; i < 12; ++i) milestones.push_back(3 * i);
  std::vector<std::unique_ptr<Schedule>> parts;
  for (std::int64_t i = 0; i < 12; ++i) parts.push_back(make_schedule(all[static_cast<std::size_t>(i) % 7]->state()));
  all.push_back(std::make_unique<SequentialSchedule>(std::move(parts), milestones));
  all.push_back(std::make_unique<ChainedSchedule>(2.0, list(LinearSchedule(options), PlateauSchedule({.lr = 0.5}))));
  for (const auto& schedule : all) {
    const auto again = make_schedule(schedule->state());
    EXPECT_EQ(again->state(), schedule->state());
    for (std::int64_t step = 0; step < 60; ++step) EXPECT_EQ(again->at(step), schedule->at(step));
  }
}

TEST(Schedule, APartHearsWhatTheWholeIsTold) {
  ChainedSchedule chained(2, list(PlateauSchedule({.lr = 1, .factor = 0.5, .patience = 0})));
  SequentialSchedule sequential(list(PlateauSchedule({.lr = 1, .factor = 0.5, .patience = 0})), {});
  for (Schedule* schedule : {static_cast<Schedule*>(&chained), static_cast<Schedule*>(&sequential)}) {
    const double before = schedule->at(0);
    schedule->observe(1);
    schedule->observe(1);
    EXPECT_DOUBLE_EQ(schedule->at(0), before / 2);
    EXPECT_DOUBLE_EQ(make_schedule(schedule->state())->at(0), before / 2);
  }
  ChainedSchedule anew(2, list(PlateauSchedule({.lr = 1, .factor = 0.25, .patience = 0})));
  anew.remember(sequential.state());  // of another kind
  EXPECT_EQ(anew.at(0), 2);
  anew.remember(chained.state());
  EXPECT_EQ(anew.at(0), chained.at(0));
}

TEST(Schedule, Errors) {
  EXPECT_THROW(CosineWithWarmup({.lr = -1}), ConfigError);
  EXPECT_THROW(CosineWithWarmup({.lr = NAN}), ConfigError);
  EXPECT_THROW(CosineWithWarmup({.lr = 1, .min_lr = 2}), ConfigError);
  EXPECT_THROW(LinearSchedule({.warmup = -1}), ConfigError);
  EXPECT_THROW(LinearSchedule({.warmup = 10, .steps = 5}), ConfigError);
  EXPECT_THROW(ConstantSchedule({.lr = INFINITY}), ConfigError);
  EXPECT_THROW(PolynomialSchedule({.steps = 5}, 0), ConfigError);
  EXPECT_THROW(WarmupStableDecay({.warmup = 3, .steps = 10, .decay = 8}), ConfigError);
  EXPECT_THROW(StepSchedule({.every = 0}), ConfigError);
  EXPECT_THROW(StepSchedule({.gamma = 1.5}), ConfigError);
  EXPECT_THROW(OneCycleSchedule({.lr = 1, .start_lr = 2, .steps = 5}), ConfigError);
  EXPECT_THROW(OneCycleSchedule({.rise = 1}), ConfigError);
  EXPECT_THROW(PlateauSchedule({.factor = 1}), ConfigError);
  EXPECT_THROW(PlateauSchedule({.patience = -1}), ConfigError);
  EXPECT_THROW(ChainedSchedule(1, {}), ConfigError);
  EXPECT_THROW(SequentialSchedule(list(ConstantSchedule({})), {1}), ConfigError);
  EXPECT_THROW(SequentialSchedule(list(ConstantSchedule({}), ConstantSchedule({}), ConstantSchedule({})), {5, 5}),
               ConfigError);
  EXPECT_EQ(trinix::testing::message_of<ConfigError>([] { (void)make_schedule({"zigzag"}); }),
            "[schedule] unknown kind 'zigzag': one of chained, constant, cosine, linear, one-cycle, plateau, "
            "polynomial, sequential, step, wsd");
  EXPECT_EQ(trinix::testing::message_of<ConfigError>([] {
              (void)make_schedule({"linear", {{"lr", 1}}});
            }),
            "[schedule] the description of a linear schedule lacks 'min_lr'");
}

}  // namespace
}  // namespace trinix::optim
