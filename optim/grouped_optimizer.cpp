#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_set>
#include <utility>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>
#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/detail/tensor_set.h>
#include <trinix/core/error.h>
#include <trinix/optim/grouped_optimizer.h>

namespace trinix::optim {

using detail::fail;

ParameterOptimizer::ParameterOptimizer(const char* name, std::vector<std::string> state_names)
    : name_(name), state_names_(std::move(state_names)) {}

void ParameterOptimizer::add_slots(const std::vector<NamedTensor>& parameters, std::size_t group) {
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
    if (!tensor.requires_grad()) {
      fail<AutogradError>(name_,
                          "the parameter '{}' does not require grad and would never change: call requires_grad_() or "
                          "leave it out",
                          name);
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

void ParameterOptimizer::zero_grad() const {
  for (const Slot& slot : slots_) slot.parameter.zero_grad();
}

std::vector<NamedTensor> ParameterOptimizer::named_parameters() const {
  std::vector<NamedTensor> all;
  all.reserve(slots_.size());
  for (const Slot& slot : slots_) all.push_back({slot.name, slot.parameter});
  return all;
}

void ParameterOptimizer::prepare_state(Slot& slot) {
  const Tensor& p = slot.parameter;
  const DType dtype = compute_type(p.dtype());
  const bool narrow = state_options(slot.group).bf16_first_moment && dtype == DType::f32;
  const auto place = [this](Tensor& t, DType wanted, Device device) {
    if (t.dtype() == wanted && t.device() == device) return;
    t = t.to(wanted).to(device);
    ++state_places_;
  };
  const std::size_t count = state_count(slot.group);
  if (slot.state.size() != count) {
    ++state_places_;
    refuse_while_captured("step");
    slot.state.resize(std::min(count, slot.state.size()));
    while (slot.state.size() < count) slot.state.push_back(zeros(p.shape(), {dtype, p.device()}));
  }
  for (std::size_t i = 0; i < count; ++i) {
    Tensor& state = slot.state[i];
    if (state.shape() != p.shape()) {
      fail<ShapeError>(name_, "the parameter '{}' has got the shape {}, but its state has {}: make a new optimizer",
                       slot.name, p.shape(), state.shape());
    }
    place(state, i == 0 && narrow ? DType::bf16 : dtype, p.device());
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

bool ParameterOptimizer::keeps_master(const Slot& slot) const {
  return size_of(slot.parameter.dtype()) == 2 && state_options(slot.group).master_weights;
}

bool ParameterOptimizer::rounds_stochastically(const Slot& slot) const {
  return slot.parameter.dtype() == DType::bf16 && state_options(slot.group).stochastic_rounding;
}

bool ParameterOptimizer::changed_by_others(const Slot& slot) {
  const auto& storage = slot.parameter.storage();
  // The same owner is the same memory; unlike lock(), this counts nothing.
  const bool same = !slot.written.owner_before(storage) && !storage.owner_before(slot.written);
  return !same || storage->version() != slot.version;
}

void ParameterOptimizer::follow_parameter(const Slot& slot) {
  const NoGrad no_grad;
  const Tensor now = slot.parameter.detach();
  // An element that is still the rounded master keeps the digits that rounding hides.
  slot.master.copy_(where(slot.master.to(now.dtype()) == now, slot.master, now.to(slot.master.dtype())));
}

void ParameterOptimizer::note_written(Slot& slot) const {
  const auto& storage = slot.parameter.storage();
  storage->mark_written(name_);
  if (slot.written.owner_before(storage) || storage.owner_before(slot.written)) slot.written = storage;
  slot.version = storage->version();
}

void ParameterOptimizer::prepare_step(const StepOptions& options) {
  if (options.require_grads) {
    for (const Slot& slot : slots_) {
      if (slot.parameter.grad().defined()) continue;
      fail<AutogradError>(name_, "the parameter '{}' has no gradient: the loss does not depend on it", slot.name);
    }
  }
  if (!(options.clip_value > 0)) {
    fail<ConfigError>(name_, "clip_value is {}, but must be positive", options.clip_value);
  }
  if (options.inverse_scale.defined()) {
    const Tensor& scale = options.inverse_scale;
    if (scale.numel() != 1) fail<ShapeError>(name_, "inverse_scale has shape {}, not one number", scale.shape());
    if (scale.dtype() != DType::f32) fail<DtypeError>(name_, "inverse_scale is {}, but must be f32", scale.dtype());
  }
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

GradientFactor ParameterOptimizer::gradient_factor_on(Device device, const StepOptions& options) const {
  const auto here = [&](const char* what, const Tensor& t) {
    if (!t.defined()) return View{};
    if (t.device() != device) {
      fail<DeviceError>(name_, "the {} is on {}, but parameters are on {}: pass grad_scale instead", what, t.device(),
                        device);
    }
    return t.raw();
  };
  return {.grad_scale = options.grad_scale,
          .inverse_scale = here("inverse_scale", options.inverse_scale),
          .norm = here("norm", options.norm),
          .max_norm = options.max_norm,
          .clip_value = options.clip_value};
}

void ParameterOptimizer::count_step(const std::vector<std::size_t>& indices) {
  for (const std::size_t i : indices) {
    ++slots_[i].step;
    note_written(slots_[i]);
  }
}

void ParameterOptimizer::follow_replays(const std::vector<std::size_t>& indices, std::function<bool()> holds,
                                        std::function<void(const Stream&)> write) {
  // One look per parameter: there may be thousands.
  struct Place {
    std::size_t slot;
    std::size_t like;  // the first slot of the same group that has made as many steps
    const void* parameter;
  };
  std::vector<Place> places;
  std::map<std::pair<std::size_t, std::int64_t>, std::size_t> firsts;
  for (const std::size_t i : indices) {
    const std::size_t like = firsts.try_emplace({slots_[i].group, slots_[i].step}, i).first->second;
    places.push_back({i, like, slots_[i].parameter.raw_data()});
  }
  Capture::current()->require([this, places = std::move(places), state = state_places_, holds = std::move(holds)] {
    return state_places_ == state && holds() && std::ranges::all_of(places, [this](const Place& place) {
             const Slot& slot = slots_[place.slot];
             return slot.parameter.raw_data() == place.parameter && slot.step == slots_[place.like].step;
           });
  });
  Capture::current()->on_replay([this, indices, write = std::move(write)](const Stream& stream) {
    write(stream);
    for (const std::size_t i : indices) {
      if (slots_[i].master.defined() && changed_by_others(slots_[i])) follow_parameter(slots_[i]);
    }
    count_step(indices);
  });
}

void ParameterOptimizer::refuse_while_captured(const char* what) {
  if (Capture::current() == nullptr) return;
  fail<CaptureError>(what,
                     "this must happen outside of a captured step, which would do it once or at every replay: make "
                     "the first step, and set options, before");
}

void ParameterOptimizer::refuse_other_capture(Device device) const {
  const Capture* const capture = Capture::current();
  if (capture == nullptr || capture->device() == device) return;
  fail<CaptureError>(name_, "a step is being captured on {}, but parameters are on {}", capture->device(), device);
}

Tensor ParameterOptimizer::gradient_of(const Slot& slot) const {
  const Tensor gradient = slot.parameter.grad();
  if (!gradient.defined()) return {};
  if (!slot.parameter.is_contiguous()) {
    fail<AutogradError>(name_, "the parameter '{}' of strides {} is not row-major: give it contiguous() data",
                        slot.name, slot.parameter.strides());
  }
  return gradient.contiguous();
}

void check_not_negative(const char* optimizer, const char* option, double value) {
  if (value >= 0 && std::isfinite(value)) return;
  fail<ConfigError>(optimizer, "{} is {}, but must be a number of at least 0", option, value);
}

void check_betas(const char* optimizer, double beta1, double beta2) {
  for (const double beta : {beta1, beta2}) {
    if (beta >= 0 && beta < 1) continue;
    fail<ConfigError>(optimizer, "the betas are {} and {}, but must lie in [0, 1)", beta1, beta2);
  }
}

void check_state_options(const char* optimizer, const StateOptions& options) {
  if (!options.stochastic_rounding || !options.master_weights) return;
  fail<ConfigError>(optimizer,
                    "stochastic_rounding is for parameters without a master copy: set master_weights = false");
}

void fail_saved_option(const char* option, double value) {
  fail<ConfigError>("load_state_dict", "the saved option {} is {}, which it cannot be", option, value);
}

}  // namespace trinix::optim
