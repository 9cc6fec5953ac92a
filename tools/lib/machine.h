#pragma once

#include <trinix/core/deterministic.h>
#include <trinix/tools/lib/config.h>

/// @file
/// What a run asks of the machine.

namespace trinix::tools {

/// Whether this build and machine can do what the options ask for. @throws DeviceError
void require_machine(const TrainConfig& config);

/// Bitwise reproducible for as long as it lives, where asked for.
class DeterministicScope {
 public:
  explicit DeterministicScope(bool on) : before_(is_deterministic()) { set_deterministic(before_ || on); }
  ~DeterministicScope() { set_deterministic(before_); }
  DeterministicScope(const DeterministicScope&) = delete;
  DeterministicScope& operator=(const DeterministicScope&) = delete;

 private:
  bool before_;
};

}  // namespace trinix::tools
