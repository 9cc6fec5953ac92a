#include <unordered_set>
#include <utility>

#include <trinix/core/detail/fail.h>
#include <trinix/core/detail/tensor_set.h>
#include <trinix/core/error.h>
#include <trinix/optim/optimizer_list.h>

namespace trinix::optim {

using detail::fail;

namespace {

constexpr const char* kName = "OptimizerList";

std::string prefix_of(std::size_t member) { return std::to_string(member) + "."; }

}  // namespace

OptimizerList::OptimizerList(std::vector<std::unique_ptr<Optimizer>> members) : members_(std::move(members)) {
  if (members_.empty()) fail<ConfigError>(kName, "there are no optimizers in the list");
  detail::TensorSet tensors;
  std::unordered_set<std::string> names;
  for (const auto& member : members_) {
    if (member == nullptr) fail<ConfigError>(kName, "a member is a null pointer");
    for (const auto& [name, tensor] : member->named_parameters()) {
      if (!tensors.insert(tensor).is_new) fail<ConfigError>(kName, "two members have the parameter '{}'", name);
      if (!names.insert(name).second) fail<ConfigError>(kName, "two parameters have the name '{}'", name);
    }
    const double first = members_.front()->lr();
    ratios_.push_back(first > 0 ? member->lr() / first : 1);
  }
}

void OptimizerList::zero_grad() const {
  for (const auto& member : members_) member->zero_grad();
}

void OptimizerList::set_lr(double lr) {
  for (std::size_t i = 0; i < members_.size(); ++i) members_[i]->set_lr(lr * ratios_[i]);
}

std::vector<NamedTensor> OptimizerList::named_parameters() const {
  std::vector<NamedTensor> all;
  for (const auto& member : members_) {
    for (NamedTensor& p : member->named_parameters()) all.push_back(std::move(p));
  }
  return all;
}

std::size_t OptimizerList::group_count() const {
  std::size_t count = 0;
  for (const auto& member : members_) count += member->group_count();
  return count;
}

void OptimizerList::update(const StepOptions& options) {
  for (const auto& member : members_) member->step(options);
}

StateDict OptimizerList::state_dict() const {
  StateDict state;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    for (const auto& [name, tensor] : members_[i]->state_dict()) state.insert(prefix_of(i) + name, tensor);
  }
  return state;
}

void OptimizerList::load_state_dict(const StateDict& state) {
  std::vector<StateDict> parts(members_.size());
  for (const auto& [name, tensor] : state) {
    std::size_t owner = 0;
    while (owner < parts.size() && !name.starts_with(prefix_of(owner))) ++owner;
    if (owner == parts.size()) {
      fail<ConfigError>(kName, "the state belongs to another optimizer, and nothing was loaded: it has '{}'", name);
    }
    parts[owner].insert(name.substr(prefix_of(owner).size()), tensor);
  }
  std::size_t loaded = 0;
  std::vector<StateDict> before;
  for (const auto& member : members_) before.push_back(member->state_dict());
  try {
    for (; loaded < members_.size(); ++loaded) members_[loaded]->load_state_dict(parts[loaded]);
  } catch (...) {
    for (std::size_t i = 0; i < loaded; ++i) members_[i]->load_state_dict(before[i]);
    throw;
  }
}

}  // namespace trinix::optim
