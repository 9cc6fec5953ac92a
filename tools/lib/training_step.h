#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include <trinix/core/pinned_buffer.h>
#include <trinix/layers/gpt.h>
#include <trinix/optim/adamw.h>
#include <trinix/tools/lib/batch_loader.h>

/// @file
/// One step of training: batches, forward, backward, clipping, optimizer.

namespace trinix::tools {

struct TrainingStepOptions {
  std::int64_t rows = 12;       ///< sequences per forward pass
  std::int64_t block = 64;      ///< tokens per sequence
  std::int64_t grad_accum = 1;  ///< forward passes whose gradients one step averages
  double clip = 1;              ///< largest global norm of the gradients; 0: no clipping
  std::uint64_t seed = 0;       ///< of the batches
};

/// What a step measured.
struct StepResult {
  std::int64_t step = 0;
  double lr = 0;
  double loss = 0;
  double grad_norm = 0;  ///< before clipping
};

/// Queues steps on the model's device. On the CPU a step is done when start() returns. On a card it has only been
/// queued; its results come back while the next one runs, so that the card never waits for the host.
class TrainingStep {
 public:
  /// All three must outlive it.
  TrainingStep(nn::Gpt& model, optim::AdamW& optimizer, const DataSet& data, const TrainingStepOptions& options);

  struct Start {
    std::int64_t step = 1;  ///< counted from 1
    double lr = 0;
    std::uint64_t data_position = 0;  ///< rows drawn before
  };
  /// @throws AutogradError on the CPU as finished(); then neither parameters nor optimizer have been touched
  void start(const Start& start);

  /// Results of the steps started so far and not reported yet, oldest first; waits for them. Unless `all`, the newest
  /// is left running where the device works by itself.
  /// @throws AutogradError naming the step when its loss or a gradient was not finite. On a card the optimizer may
  ///   have gone on by then: the parameters must not be saved
  [[nodiscard]] std::vector<StepResult> finished(bool all);

  /// Tokens that one step learns from.
  [[nodiscard]] std::int64_t tokens() const { return options_.rows * options_.block * options_.grad_accum; }

 private:
  void forward_backward();
  void check_finite(const StepResult& result) const;

  nn::Gpt& model_;
  optim::AdamW& optimizer_;
  TrainingStepOptions options_;
  std::vector<Tensor> parameters_;
  Device device_;
  BatchLoader loader_;
  Tensor loss_;  // of all forward passes of the step, in f64
  std::vector<StepResult> pending_;
};

}  // namespace trinix::tools
