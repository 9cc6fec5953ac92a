// The state of a module: moving, converting, saving, loading.
#include <unordered_map>
#include <unordered_set>

#include <trinix/autograd/grad_mode.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/detail/tensor_set.h>
#include <trinix/core/error.h>
#include <trinix/layers/module.h>

namespace trinix::nn {

using detail::fail;
using detail::format;

void Module::set_all(const std::function<Tensor(const Tensor&)>& change) {
  const NoGrad no_grad;
  const auto apply = [&](const std::vector<NamedTensor>& tensors) {
    for (const auto& [name, tensor] : tensors) {
      const Tensor changed = change(tensor.detach());
      // What stays where it was keeps its gradient.
      if (changed.storage() != tensor.storage()) tensor.set_data(changed);
    }
  };
  apply(named_parameters());
  apply(named_buffers());
}

void Module::to(Device device) {
  set_all([&](const Tensor& t) { return t.to(device); });
}

void Module::to(DType dtype) {
  if (!is_floating(dtype)) {
    fail<DtypeError>("module", "parameters cannot be converted to {}: only to f64, f32, bf16 and f16", dtype);
  }
  set_all([&](const Tensor& t) { return is_floating(t.dtype()) ? t.to(dtype) : t; });
}

std::vector<NamedTensor> Module::all_state() const {
  std::vector<NamedTensor> all;
  walk("", [&](const std::string& path, const Module& module) {
    for (const auto& [name, tensor] : module.parameters_) all.push_back({path + name, tensor});
    for (const auto& buffer : module.buffers_) {
      if (buffer.persistent) all.push_back({path + buffer.name, buffer.tensor});
    }
  });
  return all;
}

StateDict Module::state_dict() const {
  StateDict state;
  for (const auto& [name, tensor] : all_state()) state.insert(name, tensor.detach());
  return state;
}

namespace {

/// "\n  what: a, b, c"
std::string list_line(const char* what, const std::vector<std::string>& keys) {
  std::string text = std::string("\n  ") + what + ":";
  for (std::size_t i = 0; i < keys.size(); ++i) text += (i == 0 ? " " : ", ") + keys[i];
  return keys.empty() ? "" : text;
}

bool equal_values(const Tensor& a, const Tensor& b) {
  if (a.storage() == b.storage() && a.offset() == b.offset() && a.strides() == b.strides()) return true;
  return a.to_doubles() == b.to_doubles();
}

/// Why the values of `source` cannot become those of `target`, or "".
std::string mismatch(const Tensor& target, const Tensor& source) {
  if (source.shape() != target.shape()) {
    return format("is {} in the module and {} in the state", target.shape(), source.shape());
  }
  if (source.dtype() != target.dtype() && !(is_floating(source.dtype()) && is_floating(target.dtype()))) {
    return format("is {} in the module and {} in the state", target.dtype(), source.dtype());
  }
  return "";
}

}  // namespace

LoadReport Module::load_state_dict(const StateDict& state, bool strict) {
  const std::vector<NamedTensor> targets = all_state();
  LoadReport report;
  std::vector<std::string> mismatched;
  std::unordered_set<std::string> known;
  // The names of tied parameters share a place, and with it what the state holds under the first of them.
  detail::TensorSet tensors;
  std::vector<std::size_t> places;
  std::unordered_map<std::size_t, const Tensor*> source_of;

  for (const auto& [name, target] : targets) {
    known.insert(name);
    places.push_back(tensors.insert(target).index);
    const Tensor* source = state.find(name);
    if (source == nullptr) continue;
    const std::string why = mismatch(target, *source);
    const auto [first, is_first] = source_of.emplace(places.back(), source);
    if (!why.empty()) {
      mismatched.push_back(format("{} {}", name, why));
    } else if (!is_first && first->second->shape() == source->shape() && !equal_values(*first->second, *source)) {
      mismatched.push_back(format("{} is tied to another parameter, for which the state holds other values", name));
    }
  }
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (!source_of.contains(places[i])) report.missing.push_back(targets[i].name);
  }
  for (const auto& entry : state) {
    if (!known.contains(entry.name)) report.unexpected.push_back(entry.name);
  }

  if (!mismatched.empty() || (strict && (!report.missing.empty() || !report.unexpected.empty()))) {
    std::string text = "the state does not fit the module, and nothing was loaded:";
    if (strict) text += list_line("missing", report.missing) + list_line("unexpected", report.unexpected);
    text += list_line("mismatched", mismatched);
    fail<ConfigError>("load_state_dict", "{}", text);
  }

  const NoGrad no_grad;
  for (const auto& [name, target] : targets) {
    const Tensor* source = state.find(name);
    if (source != nullptr) target.copy_(source->to(target.device()));
  }
  return report;
}

}  // namespace trinix::nn
