#pragma once

#include <signal.h>
#include <string>

/// @file
/// Ctrl-C and SIGTERM as a question that the training loop asks between steps.

namespace trinix::tools {

/// While it lives, the first SIGINT or SIGTERM only sets a flag (and prints the message); the second of its kind ends
/// the process at once, as it would have without this. The handlers found are put back at the end. A signal that was
/// ignored (as under nohup) stays ignored. At most one lives at a time.
class InterruptGuard {
 public:
  /// @param message printed to standard error from the handler, such as "saving; press Ctrl-C again to end at once"
  explicit InterruptGuard(std::string message = "");
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  [[nodiscard]] bool requested() const { return signal_number() != 0; }
  /// SIGINT, SIGTERM, or 0 while neither came.
  [[nodiscard]] int signal_number() const;
  /// What the program should exit with, by the shells' convention: 130 after Ctrl-C, 143 after SIGTERM.
  [[nodiscard]] int exit_code() const { return 128 + signal_number(); }

 private:
  std::string message_;
  struct sigaction previous_int_ = {};
  struct sigaction previous_term_ = {};
};

}  // namespace trinix::tools
