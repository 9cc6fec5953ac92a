#include <utility>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/copy.h>
#include <trinix/core/state_dict.h>

namespace trinix {

using detail::fail;

StateDict::StateDict(std::initializer_list<NamedTensor> entries) {
  for (const NamedTensor& entry : entries) insert(entry.name, entry.tensor);
}

void StateDict::insert(std::string name, Tensor tensor) {
  if (name.empty()) fail<ConfigError>("state_dict", "a tensor must have a name");
  if (!tensor.defined()) fail<ConfigError>("state_dict", "'{}' is an undefined tensor: leave it out", name);
  if (!places_.emplace(name, entries_.size()).second) {
    fail<ConfigError>("state_dict", "the name '{}' is taken already", name);
  }
  entries_.push_back({std::move(name), std::move(tensor)});
}

const Tensor* StateDict::find(std::string_view name) const {
  const auto place = places_.find(name);
  return place == places_.end() ? nullptr : &entries_[place->second].tensor;
}

const Tensor& StateDict::at(std::string_view name) const {
  const Tensor* found = find(name);
  if (found == nullptr) fail<ConfigError>("state_dict", "there is no tensor named '{}' among the {}", name, size());
  return *found;
}

StateDict StateDict::clone() const {
  StateDict copy;
  for (const auto& [name, tensor] : entries_) {
    const Tensor values = trinix::empty(tensor.shape(), {tensor.dtype(), tensor.device()});
    if (values.numel() > 0) run<Copy>({.from = tensor.raw(), .to = values.raw()}, tensor.device());
    copy.insert(name, values);
  }
  return copy;
}

}  // namespace trinix
