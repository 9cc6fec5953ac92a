#include <cmath>
#include <string>
#include <utility>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/backend.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/optim/clip.h>
#include <trinix/tools/lib/training_step.h>

namespace trinix::tools {

using detail::fail;

namespace {

/// The name of the first parameter whose gradient is not finite.
std::string bad_gradient(const nn::LanguageModel& model) {
  for (const NamedTensor& p : model.named_parameters()) {
    if (p.tensor.grad().defined() && !std::isfinite(optim::grad_norm({p.tensor}))) return p.name;
  }
  return "an unknown parameter";
}

}  // namespace

TrainingStep::TrainingStep(nn::LanguageModel& model, optim::Optimizer& optimizer, const DataSet& data,
                           const TrainingStepOptions& options)
    : model_(model),
      optimizer_(optimizer),
      options_(options),
      parameters_(model.parameters()),
      device_(parameters_.front().device()),
      loader_(data, options.rows * options.grad_accum, options.block, device_),
      graph_(device_, [this](const std::vector<Tensor>&) { return work(); }) {
  const std::size_t numbers = options.scaler == nullptr ? 2 : 4;
  for (int i = 0; i < 2; ++i) free_.push_back(std::make_unique<Slot>(numbers, device_));
}

std::vector<Tensor> TrainingStep::work() {
  optimizer_.zero_grad();
  const double share = 1.0 / static_cast<double>(options_.grad_accum);
  optim::GradScaler* const scaler = options_.scaler;
  Tensor total;
  for (std::int64_t i = 0; i < options_.grad_accum; ++i) {
    const Tensor inputs = loader_.batch().inputs.narrow(0, i * options_.rows, options_.rows);
    const Tensor targets = loader_.batch().targets.narrow(0, i * options_.rows, options_.rows);
    const Tensor loss = model_.loss(inputs, targets);
    const Tensor weight = full_like(loss, share);
    loss.backward(scaler == nullptr ? weight : scaler->scale(weight));
    const Tensor part = loss.detach().to(DType::f64) * share;
    total = total.defined() ? total + part : part;
  }
  // The norm stays on the device: there the gradients are clipped, and the update is left out when it is not finite.
  const Tensor norm = optim::grad_norm_tensor(parameters_);
  optim::StepOptions step{.norm = norm};
  if (options_.clip > 0) step.max_norm = options_.clip;
  if (scaler != nullptr) step.inverse_scale = scaler->inverse();
  optimizer_.step(step);
  if (options_.ema != nullptr) options_.ema->update();
  if (scaler == nullptr) return {total, norm};
  // Both of them before the scale changes.
  const Tensor scale = scaler->current().to(DType::f64);
  const Tensor true_norm = norm / scale;
  scaler->update(norm);
  return {total, true_norm, scale, scaler->skipped_in_row().to(DType::f64)};
}

void TrainingStep::start(const Start& start) {
  loader_.load_random(Split::train, options_.seed, start.data_position);
  optimizer_.set_lr(start.lr * options_.lr_ratio);
  const std::vector<Tensor>& measured = graph_();
  std::unique_ptr<Slot> slot = std::move(free_.back());
  free_.pop_back();
  slot->result = {.step = start.step, .lr = start.lr};
  for (std::size_t i = 0; i < measured.size(); ++i) slot->numbers[i]->download(measured[i]);
  pending_.push_back(std::move(slot));
}

std::vector<StepResult> TrainingStep::finished(bool all) {
  const std::size_t left_running = all || device_.is_cpu() ? 0 : 1;
  std::vector<StepResult> results;
  while (pending_.size() > left_running) {
    Slot& slot = *pending_.front();
    slot.result.loss = slot.read(0);
    slot.result.grad_norm = slot.read(1);
    if (options_.scaler != nullptr) {
      slot.result.loss_scale = slot.read(2);
      slot.result.skipped_in_row = static_cast<std::int64_t>(slot.read(3));
    }
    check_finite(slot.result, pending_.size() == 1);
    results.push_back(slot.result);
    free_.push_back(std::move(pending_.front()));
    pending_.pop_front();
  }
  // With its queue empty a card reports what it found wrong with the data.
  if (left_running == 0) synchronize(device_);
  return results;
}

void TrainingStep::check_finite(const StepResult& result, bool is_newest) const {
  // What overflowed f16 was skipped, and the next step has a smaller scale.
  if (result.skipped_in_row > 0) return;
  if (!std::isfinite(result.loss)) {
    fail<AutogradError>("train", "the loss of step {} is {}; the last checkpoint is good", result.step, result.loss);
  }
  if (!std::isfinite(result.grad_norm)) {
    // The gradients of a step that another one has followed are gone.
    fail<AutogradError>("train", "the gradient of {} at step {} is not finite; the last checkpoint is good",
                        is_newest ? bad_gradient(model_) : std::string("a parameter"), result.step);
  }
}

}  // namespace trinix::tools
