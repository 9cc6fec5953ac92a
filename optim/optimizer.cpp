#include <cmath>
#include <unordered_set>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>
#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/detail/tensor_set.h>
#include <trinix/core/error.h>
#include <trinix/optim/optimizer.h>

namespace trinix::optim {

using detail::fail;

Optimizer::Optimizer(const char* name, std::vector<std::string> state_names)
    : name_(name), state_names_(std::move(state_names)) {}

void Optimizer::add_slots(const std::vector<NamedTensor>& parameters, std::size_t group) {
  if (parameters.empty()) fail<ConfigError>(name_, "parameter group {} holds no parameters", group);
  std::vector<Slot> all = slots_;
  detail::TensorSet tensors;
  std::unordered_set<std::string> names;
  for (const Slot& slot : all) {
    tensors.insert(slot.parameter);
    names.insert(slot.name);
  }
  for (const auto& [given_name, tensor] : parameters) {
    const std::string name = given_name.empty() ? std::to_string(all.size()) : given_name;
    if (!tensor.defined()) fail<ConfigError>(name_, "the parameter '{}' is undefined", name);
    if (!tensor.is_leaf()) {
      fail<AutogradError>(name_, "the parameter '{}' was computed by an op: only leaves can be optimized", name);
    }
    if (!is_floating(tensor.dtype())) {
      fail<DtypeError>(name_, "the parameter '{}' is {}: only floating-point tensors can be optimized", name,
                       tensor.dtype());
    }
    const auto place = tensors.insert(tensor);
    if (!place.is_new) {
      fail<ConfigError>(name_, "the parameter '{}' is given twice: it is '{}' of group {} too", name,
                        all[place.index].name, all[place.index].group);
    }
    if (!names.insert(name).second) fail<ConfigError>(name_, "two parameters have the name '{}'", name);
    all.push_back({.name = name, .parameter = tensor, .group = group});
  }
  slots_ = std::move(all);
  ++state_places_;
}

void Optimizer::zero_grad() const {
  for (const Slot& slot : slots_) slot.parameter.zero_grad();
}

std::vector<Tensor> Optimizer::parameters() const {
  std::vector<Tensor> all;
  for (const Slot& slot : slots_) all.push_back(slot.parameter);
  return all;
}

std::vector<std::string> Optimizer::without_grad() const {
  std::vector<std::string> names;
  for (const Slot& slot : slots_) {
    if (!slot.parameter.grad().defined()) names.push_back(slot.name);
  }
  return names;
}

void Optimizer::prepare_state(Slot& slot) {
  const Tensor& p = slot.parameter;
  const DType dtype = compute_type(p.dtype());
  const auto place = [this](Tensor& t, DType wanted, Device device) {
    if (t.dtype() == wanted && t.device() == device) return;
    t = t.to(wanted).to(device);
    ++state_places_;
  };
  if (slot.state.empty()) {
    ++state_places_;
    refuse_while_captured("step");
    for (std::size_t i = 0; i < state_names_.size(); ++i) {
      slot.state.push_back(zeros(p.shape(), {dtype, p.device()}));
    }
  }
  for (Tensor& state : slot.state) {
    if (state.shape() != p.shape()) {
      fail<ShapeError>(name_, "the parameter '{}' has got the shape {}, but its state has {}: make a new optimizer",
                       slot.name, p.shape(), state.shape());
    }
    place(state, dtype, p.device());
  }
  if (!keeps_master(slot)) {
    if (slot.master.defined()) ++state_places_;
    slot.master = {};
  } else if (!slot.master.defined()) {
    ++state_places_;
    refuse_while_captured("step");
    slot.master = p.detach().to(dtype);
  } else {
    place(slot.master, dtype, p.device());
  }
}

bool Optimizer::changed_by_others(const Slot& slot) {
  const auto& storage = slot.parameter.storage();
  // The same owner is the same memory; unlike lock(), this counts nothing.
  const bool same = !slot.written.owner_before(storage) && !storage.owner_before(slot.written);
  return !same || storage->version() != slot.version;
}

void Optimizer::follow_parameter(const Slot& slot) {
  const NoGrad no_grad;
  const Tensor now = slot.parameter.detach();
  // An element that is still the rounded master keeps the digits that rounding hides.
  slot.master.copy_(where(slot.master.to(now.dtype()) == now, slot.master, now.to(slot.master.dtype())));
}

void Optimizer::note_written(Slot& slot) const {
  const auto& storage = slot.parameter.storage();
  storage->mark_written(name_);
  if (slot.written.owner_before(storage) || storage.owner_before(slot.written)) slot.written = storage;
  slot.version = storage->version();
}

void Optimizer::prepare_norm(const StepOptions& options) {
  if (!options.norm.defined()) {
    if (std::isfinite(options.max_norm)) {
      fail<ConfigError>(name_, "max_norm is {}, but no norm was given: pass grad_norm_tensor() as well",
                        options.max_norm);
    }
    return;
  }
  if (!(options.max_norm > 0)) fail<ConfigError>(name_, "max_norm is {}, but must be positive", options.max_norm);
  if (options.norm.numel() != 1) fail<ShapeError>(name_, "the norm has shape {}, not one number", options.norm.shape());
  if (options.norm.dtype() != DType::f64) {
    fail<DtypeError>(name_, "the norm is {}, but must be f64, as grad_norm_tensor() makes it", options.norm.dtype());
  }
  if (skipped_.defined() && skipped_.device() == options.norm.device()) return;
  refuse_while_captured("step");
  skipped_ = skipped_.defined() ? skipped_.to(options.norm.device()) : zeros({}, {DType::i64, options.norm.device()});
}

void Optimizer::refuse_while_captured(const char* what) {
  if (Capture::current() == nullptr) return;
  fail<CaptureError>(what,
                     "this must happen outside of a captured step, which would do it once or at every replay: make "
                     "the first step, and set options, before");
}

Tensor Optimizer::gradient_of(const Slot& slot) const {
  const Tensor gradient = slot.parameter.grad();
  if (!gradient.defined()) return {};
  if (!slot.parameter.is_contiguous()) {
    fail<AutogradError>(name_, "the parameter '{}' of strides {} is not row-major: give it contiguous() data",
                        slot.name, slot.parameter.strides());
  }
  return gradient.contiguous();
}

std::vector<NamedTensor> unnamed(const std::vector<Tensor>& parameters) {
  std::vector<NamedTensor> named;
  for (const Tensor& t : parameters) named.push_back({"", t});
  return named;
}

}  // namespace trinix::optim
