// Saving and loading what an optimizer remembers.
#include <set>

#include <trinix/autograd/grad_mode.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/optim/grouped_optimizer.h>

namespace trinix::optim {

using detail::fail;
using detail::format;

namespace {

std::string state_key(const std::string& parameter, const std::string& what) {
  return "state." + parameter + "." + what;
}

constexpr const char* kMaster = "master";

std::string option_key(std::size_t group, const char* option) { return format("param_groups.{}.{}", group, option); }

std::string join(const char* what, const std::vector<std::string>& keys) {
  std::string text = std::string("\n  ") + what + ":";
  for (std::size_t i = 0; i < keys.size(); ++i) text += (i == 0 ? " " : ", ") + keys[i];
  return keys.empty() ? "" : text;
}

/// Looks keys up in a state, and collects what is wrong with it.
class Reader {
 public:
  explicit Reader(const StateDict& state) : state_(state) {}

  /// The entry, if it is there and has the shape and the kind of dtype.
  const Tensor* find(const std::string& key, const Shape& shape, bool floating) {
    expected_.insert(key);
    const Tensor* found = state_.find(key);
    if (found == nullptr) {
      missing_.push_back(key);
    } else if (found->shape() != shape || is_floating(found->dtype()) != floating) {
      mismatched_.push_back(format("{} is {} {} in the optimizer and {} {} in the state", key, shape,
                                   floating ? "floating point" : "i64", found->shape(), found->dtype()));
    } else {
      return found;
    }
    return nullptr;
  }

  /// The same for an entry that may be missing.
  const Tensor* find_optional(const std::string& key, const Shape& shape) {
    return state_.find(key) == nullptr ? nullptr : find(key, shape, true);
  }

  void finish(const char* optimizer) const {
    std::vector<std::string> unexpected;
    for (const auto& entry : state_) {
      if (!expected_.contains(entry.name)) unexpected.push_back(entry.name);
    }
    if (missing_.empty() && unexpected.empty() && mismatched_.empty()) return;
    fail<ConfigError>(optimizer, "the state belongs to another optimizer or model, and nothing was loaded:{}{}{}",
                      join("missing", missing_), join("unexpected", unexpected), join("mismatched", mismatched_));
  }

 private:
  const StateDict& state_;
  std::set<std::string> expected_;
  std::vector<std::string> missing_;
  std::vector<std::string> mismatched_;
};

}  // namespace

StateDict ParameterOptimizer::state_dict() const {
  StateDict state;
  for (const Slot& slot : slots_) {
    state.insert(state_key(slot.name, "step"), full({}, slot.step, {DType::i64}));
    for (std::size_t i = 0; i < slot.state.size(); ++i) {
      state.insert(state_key(slot.name, state_names_[i]), slot.state[i]);
    }
    if (slot.master.defined()) state.insert(state_key(slot.name, kMaster), slot.master);
  }
  for (std::size_t group = 0; group < group_count(); ++group) {
    // The visitor may assign, but this one only looks.
    const_cast<ParameterOptimizer*>(this)->visit_options(group, [&](const char* option, double& value) {
      state.insert(option_key(group, option), full({}, value, {DType::f64}));
    });
  }
  return state;
}

void ParameterOptimizer::load_state_dict(const StateDict& state) {
  Reader reader(state);
  // The options come first, because they say which tensors there are; they are put back if anything is wrong.
  std::vector<std::vector<double>> before(group_count());
  const auto put_back = [&] {
    for (std::size_t group = 0; group < group_count(); ++group) {
      std::size_t i = 0;
      visit_options(group, [&](const char*, double& value) {
        if (i < before[group].size()) value = before[group][i++];
      });
    }
  };
  std::vector<Slot> loaded = slots_;
  try {
    for (std::size_t group = 0; group < group_count(); ++group) {
      visit_options(group, [&](const char* option, double& value) {
        before[group].push_back(value);
        const Tensor* saved = reader.find(option_key(group, option), {}, true);
        if (saved != nullptr) value = saved->item<double>();
      });
    }
    for (Slot& slot : loaded) {
      const Tensor* step = reader.find(state_key(slot.name, "step"), {}, false);
      if (step == nullptr) continue;
      slot.step = step->item<std::int64_t>();
      if (slot.step < 0) fail<ConfigError>(name_, "the state of '{}' counts {} steps", slot.name, slot.step);
      slot.state.clear();
      slot.master = {};
      slot.written.reset();
      if (slot.step == 0) continue;
      for (std::size_t i = 0; i < state_count(slot.group); ++i) {
        const Tensor* values = reader.find(state_key(slot.name, state_names_[i]), slot.parameter.shape(), true);
        if (values != nullptr) slot.state.push_back(values->detach().contiguous());
      }
      const Tensor* master = reader.find_optional(state_key(slot.name, kMaster), slot.parameter.shape());
      slot.master = master == nullptr ? Tensor() : master->detach().contiguous();
    }
    reader.finish(name_);
  } catch (...) {
    put_back();
    throw;
  }

  const NoGrad no_grad;
  for (Slot& slot : loaded) {
    for (Tensor& values : slot.state) values = values.clone();  // the dict keeps its own
    if (slot.master.defined()) slot.master = slot.master.clone();
  }
  for (Slot& slot : loaded) {
    if (slot.master.defined() && compute_type(slot.parameter.dtype()) == slot.parameter.dtype()) {
      slot.parameter.copy_(slot.master.to(slot.parameter.device()));
    }
    if (slot.step > 0) prepare_state(slot);
  }
  slots_ = std::move(loaded);
  ++state_places_;
}

}  // namespace trinix::optim
