#include <unordered_set>

#include <trinix/core/detail/fail.h>
#include <trinix/core/detail/tensor_set.h>
#include <trinix/core/error.h>
#include <trinix/layers/module.h>

namespace trinix::nn {

using detail::fail;

namespace {

std::string without_last_dot(const std::string& path) { return path.empty() ? path : path.substr(0, path.size() - 1); }

}  // namespace

void Module::check_name(const std::string& name) const {
  if (name.empty()) fail<ConfigError>("module", "a parameter, buffer or submodule must have a name");
  if (name.find('.') != std::string::npos) {
    fail<ConfigError>("module", "the name '{}' holds a dot, which separates the levels of a tree", name);
  }
  const auto taken = [&](const char* what) {
    fail<ConfigError>("module", "the name '{}' is taken already by a {} of this module", name, what);
  };
  for (const auto& p : parameters_) {
    if (p.name == name) taken("parameter");
  }
  for (const auto& b : buffers_) {
    if (b.name == name) taken("buffer");
  }
  for (const auto& c : children_) {
    if (c.first == name) taken("submodule");
  }
}

Tensor Module::register_parameter(const std::string& name, Tensor value, bool requires_grad) {
  check_name(name);
  if (!value.defined()) {
    fail<ConfigError>("module", "the parameter '{}' is undefined: leave out what a module does not have", name);
  }
  if (!value.is_leaf()) {
    fail<AutogradError>("module", "the parameter '{}' was computed by an op: detach() it to make it a leaf", name);
  }
  if (!value.is_contiguous()) {
    fail<ConfigError>("module", "the parameter '{}' of shape {} and strides {} is not row-major: pass contiguous()",
                      name, value.shape(), value.strides());
  }
  // A tied parameter keeps the choice made where it was registered first.
  if (requires_grad && !value.requires_grad()) value.requires_grad_();
  parameters_.push_back({name, value});
  return value;
}

Tensor Module::register_buffer(const std::string& name, Tensor value, const BufferOptions& options) {
  check_name(name);
  if (!value.defined()) fail<ConfigError>("module", "the buffer '{}' is undefined", name);
  if (value.requires_grad()) {
    fail<AutogradError>("module", "the buffer '{}' requires grad: detach() it, or register a parameter", name);
  }
  buffers_.push_back({name, value, options.persistent});
  return value;
}

void Module::add_child(const std::string& name, std::shared_ptr<Module> child) {
  check_name(name);
  if (child == nullptr) fail<ConfigError>("module", "the submodule '{}' is null", name);
  for (const auto& [path, module] : child->named_modules()) {
    if (module == this) fail<ConfigError>("module", "the submodule '{}' contains the module it is added to", name);
  }
  children_.emplace_back(name, std::move(child));
}

void Module::walk(const std::string& path, const std::function<void(const std::string&, const Module&)>& visit) const {
  visit(path, *this);
  for (const auto& [name, child] : children_) child->walk(path + name + ".", visit);
}

std::vector<NamedTensor> Module::named_parameters() const {
  std::vector<NamedTensor> all;
  detail::TensorSet seen;
  walk("", [&](const std::string& path, const Module& module) {
    for (const auto& [name, tensor] : module.parameters_) {
      if (seen.insert(tensor).is_new) all.push_back({path + name, tensor});
    }
  });
  return all;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> all;
  for (auto& [name, tensor] : named_parameters()) all.push_back(tensor);
  return all;
}

std::vector<NamedTensor> Module::named_buffers() const {
  std::vector<NamedTensor> all;
  detail::TensorSet seen;
  walk("", [&](const std::string& path, const Module& module) {
    for (const auto& buffer : module.buffers_) {
      if (seen.insert(buffer.tensor).is_new) all.push_back({path + buffer.name, buffer.tensor});
    }
  });
  return all;
}

std::vector<std::pair<std::string, const Module*>> Module::named_modules() const {
  std::vector<std::pair<std::string, const Module*>> all;
  std::unordered_set<const Module*> seen;
  walk("", [&](const std::string& path, const Module& module) {
    if (seen.insert(&module).second) all.emplace_back(without_last_dot(path), &module);
  });
  return all;
}

std::vector<std::pair<std::string, Module*>> Module::named_modules() {
  std::vector<std::pair<std::string, Module*>> all;
  // Everything below a module that is not const was registered through pointers to non-const.
  for (const auto& [path, module] : std::as_const(*this).named_modules()) {
    all.emplace_back(path, const_cast<Module*>(module));
  }
  return all;
}

std::int64_t Module::num_parameters() const {
  std::int64_t count = 0;
  for (const auto& p : named_parameters()) count += p.tensor.numel();
  return count;
}

void Module::train(bool on) {
  for (const auto& [path, module] : named_modules()) module->training_ = on;
}

void Module::requires_grad_(bool on) {
  for (auto& p : named_parameters()) p.tensor.requires_grad_(on);
}

void Module::zero_grad() const {
  for (const auto& p : named_parameters()) p.tensor.zero_grad();
}

EvalScope::EvalScope(Module& module) {
  for (const auto& [path, m] : module.named_modules()) modes_.emplace_back(m, m->training_);
  module.eval();
}

EvalScope::~EvalScope() {
  for (const auto& [module, training] : modes_) module->training_ = training;
}

}  // namespace trinix::nn
