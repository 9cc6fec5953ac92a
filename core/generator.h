#pragma once

#include <cstdint>
#include <mutex>

/// @file
/// Sources of random numbers. A generator is a seed and a count of numbers drawn; the numbers themselves are a pure
/// function of both (core/philox.h), so the same seed gives the same values on every device.

namespace trinix {

/// Where one op's random numbers come from: element i uses lane i % 4 of philox(seed, offset + i / 4).
struct RandomState {
  std::uint64_t seed = 0;
  std::uint64_t offset = 0;
};

/// Thread-safe.
class Generator {
 public:
  explicit Generator(std::uint64_t seed = 0) : state_{seed, 0} {}

  /// Starts again from `seed`.
  void manual_seed(std::uint64_t seed) { set_state({seed, 0}); }

  /// Everything that decides about the numbers still to come: save it, and set it to continue exactly there.
  [[nodiscard]] RandomState state() const {
    const std::lock_guard lock(mutex_);
    return state_;
  }
  void set_state(const RandomState& state) {
    const std::lock_guard lock(mutex_);
    state_ = state;
  }

  /// Claims `count` numbers and returns where they begin.
  RandomState reserve(std::uint64_t count) {
    const std::lock_guard lock(mutex_);
    const RandomState begin = state_;
    state_.offset += (count + 3) / 4;
    return begin;
  }

 private:
  mutable std::mutex mutex_;
  RandomState state_;
};

/// The generator that ops use when none is given. Seeded with 0 at start.
[[nodiscard]] Generator& default_generator();

/// Seeds default_generator().
void manual_seed(std::uint64_t seed);

}  // namespace trinix
