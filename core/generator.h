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
  /// When not null, a word in device memory that kernels add to `offset`. Only states that were reserved while a step
  /// was captured have one; each replay of the step writes there what was drawn since. The CPU's kernels never see it.
  const std::uint64_t* extra = nullptr;
};

/// Thread-safe.
class Generator {
 public:
  explicit Generator(std::uint64_t seed = 0) : state_{seed, 0, nullptr} {}

  /// Starts again from `seed`. @throws CaptureError while a step is being captured, which would not replay it.
  void manual_seed(std::uint64_t seed);

  /// Everything that decides about the numbers still to come: save it, and set it to continue exactly there.
  [[nodiscard]] RandomState state() const {
    const std::lock_guard lock(mutex_);
    return state_;
  }
  void set_state(const RandomState& state) {
    const std::lock_guard lock(mutex_);
    state_ = {state.seed, state.offset, nullptr};
  }

  /// Claims `count` numbers and returns where they begin. While a step is captured on this thread, the state is one
  /// that moves on with every replay, and the generator must live as long as the captured step.
  RandomState reserve(std::uint64_t count);

  /// Claims `blocks` times four numbers.
  RandomState skip(std::uint64_t blocks) {
    const std::lock_guard lock(mutex_);
    const RandomState begin = state_;
    state_.offset += blocks;
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
