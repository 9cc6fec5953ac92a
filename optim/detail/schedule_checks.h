#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

/// @file
/// What the schedules share. Private.

namespace trinix::optim {

inline void check_rate(const char* what, double value) {
  if (!(value >= 0) || std::isinf(value)) {
    detail::fail<ConfigError>("schedule", "{} is {}, but must be a number of at least 0", what, value);
  }
}

inline void check_count(const char* what, std::int64_t value) {
  if (value < 0) detail::fail<ConfigError>("schedule", "{} is {}, but must be at least 0", what, value);
}

inline void check_order(double min_lr, double lr) {
  check_rate("lr", lr);
  check_rate("min_lr", min_lr);
  if (min_lr > lr) detail::fail<ConfigError>("schedule", "min_lr {} is above lr {}", min_lr, lr);
}

/// The rate of a step of the warm-up.
inline double warming_up(double lr, std::int64_t step, std::int64_t warmup) {
  return lr * static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
}

/// Under which name the state of a SequentialSchedule holds the start of part i + 1.
inline std::string milestone_name(std::size_t i) { return "milestone." + std::to_string(i); }

}  // namespace trinix::optim
