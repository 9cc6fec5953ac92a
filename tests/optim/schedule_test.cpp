#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/core/error.h>
#include <trinix/optim/schedule.h>

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

TEST(Schedule, ComesBackFromItsState) {
  const DecayOptions options{.lr = 0.1, .min_lr = 0.01, .warmup = 7, .steps = 50};
  std::vector<std::unique_ptr<Schedule>> all;
  all.push_back(std::make_unique<ConstantSchedule>(ConstantOptions{.lr = 0.3, .warmup = 5}));
  all.push_back(std::make_unique<LinearSchedule>(options));
  all.push_back(std::make_unique<CosineWithWarmup>(options));
  for (const auto& schedule : all) {
    const auto again = make_schedule(schedule->state());
    EXPECT_EQ(again->state(), schedule->state());
    for (std::int64_t step = 0; step < 60; ++step) EXPECT_EQ(again->at(step), schedule->at(step));
  }
}

TEST(Schedule, Errors) {
  EXPECT_THROW(CosineWithWarmup({.lr = -1}), ConfigError);
  EXPECT_THROW(CosineWithWarmup({.lr = NAN}), ConfigError);
  EXPECT_THROW(CosineWithWarmup({.lr = 1, .min_lr = 2}), ConfigError);
  EXPECT_THROW(LinearSchedule({.warmup = -1}), ConfigError);
  EXPECT_THROW(LinearSchedule({.warmup = 10, .steps = 5}), ConfigError);
  EXPECT_THROW(ConstantSchedule({.lr = INFINITY}), ConfigError);
  EXPECT_THROW((void)make_schedule({"zigzag", {}}), ConfigError);
  EXPECT_THROW((void)make_schedule({"linear", {{"lr", 1}}}), ConfigError);
}

}  // namespace
}  // namespace trinix::optim
