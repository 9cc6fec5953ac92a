#include "support/hang_watch.h"

#include <gtest/gtest.h>

/// The watch over tests of kernels itself: what hangs ends, with its name; what does not hang goes on.

namespace trinix::testing {
namespace {

TEST(HangWatchDeathTest, WhatHangsEndsTheProcessWithItsName) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto hang = [] {
    const HangWatch watch("a kernel with its configuration", std::chrono::seconds(1));
    std::this_thread::sleep_for(std::chrono::seconds(300));
  };
  EXPECT_EXIT(hang(), ::testing::ExitedWithCode(1), "taken for a hang: a kernel with its configuration");
}

TEST(HangWatch, WhatEndsInTimeGoesOn) {
  for (int i = 0; i < 100; ++i) const HangWatch watch("nothing");
}

}  // namespace
}  // namespace trinix::testing
