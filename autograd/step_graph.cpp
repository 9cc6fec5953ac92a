#include <utility>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/step_graph.h>
#include <trinix/core/backend.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/log.h>

namespace trinix {

using detail::fail;

namespace {

bool same_kind(const Tensor& buffer, const Tensor& given) {
  return buffer.shape() == given.shape() && buffer.dtype() == given.dtype();
}

/// Host memory goes to the buffer without a temporary on the device.
void copy_into(const Tensor& buffer, const Tensor& given) {
  const bool same_place = given.storage() == buffer.storage() && given.offset() == buffer.offset();
  if (same_place && given.strides() == buffer.strides()) return;
  if (given.device() == buffer.device()) {
    buffer.copy_(given.detach());
    return;
  }
  const Tensor dense = given.detach().contiguous();
  const Device driver = buffer.device().is_cpu() ? given.device() : buffer.device();
  const std::size_t bytes = static_cast<std::size_t>(buffer.numel()) * size_of(buffer.dtype());
  backend_of(driver).copy(buffer.raw_data(), buffer.device(), dense.raw_data(), given.device(), bytes,
                          stream_of(driver));
  buffer.storage()->mark_written("StepGraph");
}

std::vector<Tensor> without_history(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> plain;
  for (const Tensor& t : tensors) plain.push_back(t.defined() ? t.detach() : t);
  return plain;
}

}  // namespace

StepGraph::StepGraph(Device device, Step step, const StepGraphOptions& options)
    : device_(device), step_(std::move(step)), options_(options), eager_left_(options.warmup) {
  if (options.warmup < 1) {
    fail<ConfigError>("StepGraph", "warmup is {}, but the first step cannot be captured: let at least 1 run eagerly",
                      options.warmup);
  }
}

void StepGraph::reset() {
  capture_.reset();
  outputs_.clear();
  eager_left_ = options_.warmup;
}

void StepGraph::take_inputs(const std::vector<Tensor>& given) {
  bool same = inputs_.size() == given.size();
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (!given[i].defined()) fail<Error>("StepGraph", "input {} is undefined", i);
    if (!same || same_kind(inputs_[i], given[i])) continue;
    same = false;
    if (capture_ != nullptr) {
      log(detail::format("StepGraph: input {} was {} of shape {} and is now {} of shape {}; the step is captured anew",
                         i, inputs_[i].dtype(), inputs_[i].shape(), given[i].dtype(), given[i].shape()));
    }
  }
  if (!same) {
    reset();
    inputs_.clear();
    for (const Tensor& t : given) inputs_.push_back(empty(t.shape(), {t.dtype(), device_}));
  }
  const NoGrad no_grad;
  for (std::size_t i = 0; i < given.size(); ++i) copy_into(inputs_[i], given[i]);
}

void StepGraph::run_eagerly(const std::vector<Tensor>& inputs) { outputs_ = without_history(step_(inputs)); }

void StepGraph::record() {
  // The recording gets memory of its own: what eager steps have left unused goes back first.
  outputs_.clear();
  empty_cache(device_);
  auto capture = std::make_unique<Capture>(device_);
  outputs_ = without_history(step_(inputs_));
  capture->finish();
  capture_ = std::move(capture);
}

const std::vector<Tensor>& StepGraph::operator()(const std::vector<Tensor>& inputs) {
  if (!backend_of(device_).can_capture()) {
    std::vector<Tensor> here;
    for (const Tensor& t : inputs) here.push_back(t.to(device_));
    run_eagerly(here);
    return outputs_;
  }
  take_inputs(inputs);
  if (capture_ != nullptr && capture_->is_outdated()) {
    log("StepGraph: an optimizer's state, a parameter's place or a generator's seed has changed; the step is captured "
        "anew");
    reset();
  }
  if (eager_left_ > 0) {
    run_eagerly(inputs_);
    --eager_left_;
    return outputs_;
  }
  if (capture_ == nullptr) record();
  capture_->replay();
  for (const Tensor& t : outputs_) {
    if (t.defined()) t.storage()->mark_written("StepGraph");
  }
  return outputs_;
}

}  // namespace trinix
