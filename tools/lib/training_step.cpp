#include <cmath>
#include <string>
#include <utility>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/optim/clip.h>
#include <trinix/tools/lib/training_step.h>

namespace trinix::tools {

using detail::fail;

namespace {

/// The name of the first parameter whose gradient is not finite.
std::string bad_gradient(const nn::Gpt& model) {
  for (const NamedTensor& p : model.named_parameters()) {
    if (p.tensor.grad().defined() && !std::isfinite(optim::grad_norm({p.tensor}))) return p.name;
  }
  return "an unknown parameter";
}

}  // namespace

TrainingStep::TrainingStep(nn::Gpt& model, optim::AdamW& optimizer, const DataSet& data,
                           const TrainingStepOptions& options)
    : model_(model),
      optimizer_(optimizer),
      options_(options),
      parameters_(model.parameters()),
      device_(parameters_.front().device()),
      loader_(data, options.rows * options.grad_accum, options.block, device_),
      loss_(zeros({}, {DType::f64, device_})) {}

void TrainingStep::forward_backward() {
  optimizer_.zero_grad();
  zero_(loss_);
  const double share = 1.0 / static_cast<double>(options_.grad_accum);
  for (std::int64_t i = 0; i < options_.grad_accum; ++i) {
    const Tensor inputs = loader_.batch().inputs.narrow(0, i * options_.rows, options_.rows);
    const Tensor targets = loader_.batch().targets.narrow(0, i * options_.rows, options_.rows);
    const Tensor loss = model_.loss(inputs, targets);
    loss.backward(full_like(loss, share));
    add_(loss_, loss.detach().to(DType::f64) * share);
  }
}

void TrainingStep::start(const Start& start) {
  loader_.load_random(Split::train, options_.seed, start.data_position);
  optimizer_.set_lr(start.lr);
  StepResult result{.step = start.step, .lr = start.lr};
  forward_backward();
  result.loss = loss_.item<double>();
  result.grad_norm = optim::grad_norm(parameters_);
  check_finite(result);
  const double scale = options_.clip > 0 ? optim::clip_scale(result.grad_norm, options_.clip) : 1.0;
  optimizer_.step({.grad_scale = scale});
  pending_.push_back(result);
}

std::vector<StepResult> TrainingStep::finished(bool) { return std::exchange(pending_, {}); }

void TrainingStep::check_finite(const StepResult& result) const {
  if (!std::isfinite(result.loss)) {
    fail<AutogradError>("train", "the loss of step {} is {}; nothing was changed, the last checkpoint is good",
                        result.step, result.loss);
  }
  if (!std::isfinite(result.grad_norm)) {
    fail<AutogradError>("train",
                        "the gradient of {} at step {} is not finite; nothing was changed, the last checkpoint is good",
                        bad_gradient(model_), result.step);
  }
}

}  // namespace trinix::tools
