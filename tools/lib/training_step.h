#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include <trinix/autograd/step_graph.h>
#include <trinix/core/pinned_buffer.h>
#include <trinix/layers/language_model.h>
#include <trinix/optim/ema.h>
#include <trinix/optim/grad_scaler.h>
#include <trinix/optim/optimizer.h>
#include <trinix/tools/lib/batch_loader.h>

/// @file
/// One step of training: batches, forward, backward, clipping, optimizer, moving average.

namespace trinix::tools {

struct TrainingStepOptions {
  std::int64_t rows = 12;               ///< sequences per forward pass
  std::int64_t block = 64;              ///< tokens per sequence
  std::int64_t grad_accum = 1;          ///< forward passes whose gradients one step averages
  double clip = 1;                      ///< largest global norm of the gradients; 0: no clipping
  std::uint64_t seed = 0;               ///< of the batches
  double lr_ratio = 1;                  ///< of the optimizer's learning rate to that of a step
  optim::GradScaler* scaler = nullptr;  ///< scales losses; steps whose gradients are not finite are then skipped
  optim::Ema* ema = nullptr;            ///< follows the parameters
};

/// What a step measured.
struct StepResult {
  std::int64_t step = 0;
  double lr = 0;
  double loss = 0;
  double grad_norm = 0;  ///< before clipping; not finite for a step that was skipped
  // With a scaler:
  double loss_scale = 1;            ///< that the step was made with
  std::int64_t skipped_in_row = 0;  ///< steps skipped since the last that was not, this one included
};

/// Queues steps on the model's device. On the CPU a step is done when start() returns. On a card, where it is captured
/// as one piece of work, it has only been queued; its results come back while the next one runs, so that the card never
/// waits for the host.
class TrainingStep {
 public:
  /// All three, what the options point to, and the model's generator must outlive it.
  TrainingStep(nn::LanguageModel& model, optim::Optimizer& optimizer, const DataSet& data,
               const TrainingStepOptions& options);

  struct Start {
    std::int64_t step = 1;  ///< counted from 1
    double lr = 0;
    std::uint64_t data_position = 0;  ///< rows drawn before
  };
  /// After each, finished() must be called before the next.
  void start(const Start& start);

  /// Results of the steps started so far and not reported yet, oldest first; waits for them. Unless `all`, the newest
  /// is left running where the device works by itself.
  /// @throws AutogradError naming the step when its loss or, without a scaler, a gradient was not finite, and the
  ///   parameter where that is still known. The step has then changed no parameter, but the optimizer has counted it,
  ///   and a later step may have run: nothing of it should be saved
  [[nodiscard]] std::vector<StepResult> finished(bool all);

  /// Tokens that one step learns from.
  [[nodiscard]] std::int64_t tokens() const { return options_.rows * options_.block * options_.grad_accum; }

 private:
  /// The work of a step on the device. @returns what Slot holds, as numbers that nobody has read
  [[nodiscard]] std::vector<Tensor> work();
  void check_finite(const StepResult& result, bool is_newest) const;

  /// Room for the numbers of one step on their way to the host, each an f64: the loss, the norm of the gradients, and
  /// with a scaler the scale and how many steps in a row were skipped.
  struct Slot {
    StepResult result;
    std::vector<std::unique_ptr<PinnedBuffer>> numbers;
    Slot(std::size_t count, Device device) {
      for (std::size_t i = 0; i < count; ++i) numbers.push_back(std::make_unique<PinnedBuffer>(sizeof(double), device));
    }
    /// Waits for it.
    [[nodiscard]] double read(std::size_t i) const {
      numbers[i]->wait();
      return *static_cast<const double*>(numbers[i]->data());
    }
  };

  nn::LanguageModel& model_;
  optim::Optimizer& optimizer_;
  TrainingStepOptions options_;
  std::vector<Tensor> parameters_;
  Device device_;
  BatchLoader loader_;
  StepGraph graph_;
  std::deque<std::unique_ptr<Slot>> pending_;  // oldest first
  std::vector<std::unique_ptr<Slot>> free_;
};

}  // namespace trinix::tools
