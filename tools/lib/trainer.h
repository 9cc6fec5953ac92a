#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <trinix/tools/lib/config.h>

/// @file
/// Training a GPT on a text, from the options to the files of the run: what `trinix train` does.

namespace trinix::tools {

/// What the application sees of a run while it goes on. All optional.
struct TrainHooks {
  /// Called after every step with the number of steps done and the loss; returning false ends the run as Ctrl-C would.
  /// With it, a card waits for the host after every step.
  std::function<bool(std::int64_t step, double loss)> after_step;
  /// Show progress on standard output.
  bool show_progress = true;
  /// Take Ctrl-C and SIGTERM as a wish to save and stop. An application that has its own handlers leaves it off.
  bool handle_signals = false;
};

struct TrainResult {
  std::int64_t steps = 0;           ///< done in all, earlier processes included
  double best_validation_loss = 0;  ///< infinite when there was no evaluation
  double last_validation_loss = 0;  ///< NaN when there was none
  std::string sample;               ///< text written by the trained model; empty without a tokenizer
  int exit_code = 0;                ///< 130 or 143 when a signal ended the run
};

/// Runs the whole of it in the folder config.out: metrics.jsonl, loss.svg, checkpoints. With config.resume it goes on
/// from the newest checkpoint there, bit for bit as if it had never stopped; options that `config.chosen` does not name
/// then come from the checkpoint.
/// A run may go on with another device or dtype; it is then equal up to rounding.
/// @throws ConfigError, DataError, IoError, FormatError, DeviceError; AutogradError naming the step when the loss or a
///   gradient is not finite. The last good checkpoint stays. On the CPU the parameters have not been touched then.
TrainResult train(const TrainConfig& config, const TrainHooks& hooks = {});

}  // namespace trinix::tools
