#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <trinix/core/state_dict.h>
#include <trinix/core/tensor.h>

/// @file
/// The base of the optimizers: which parameters there are, in which groups, and what is remembered about each.

namespace trinix::optim {

/// Parameters that share options. A name is used in error texts and in saved state; an empty one becomes the
/// parameter's position among all.
template <class Options>
struct ParamGroup {
  std::vector<NamedTensor> parameters;
  Options options = {};
};

struct StepOptions {
  /// Gradients are multiplied by it on the way in, for example by clip_scale(), which saves a pass over them.
  double grad_scale = 1;
  /// The norm of all gradients as grad_norm_tensor() returns it: a number that the host never reads. Gradients are
  /// clipped so that their norm, after grad_scale, is at most max_norm. When the norm is not finite the whole update
  /// does nothing and is counted in skipped(); to the bias corrections it is a step all the same.
  Tensor norm = {};
  double max_norm = std::numeric_limits<double>::infinity();
};

/// Changes parameters in place, by their gradients. A parameter that has never got a gradient is passed over; see
/// without_grad().
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update of every parameter that has a gradient. Can be captured (autograd/step_graph.h): a replay uses the
  /// learning rate and the other options that are set then, and counts the step.
  /// @throws AutogradError for a gradient that does not fit.
  virtual void step(const StepOptions& options = {}) = 0;
  /// Clears the gradients; keeps their memory.
  void zero_grad() const;
  /// How many steps did nothing because StepOptions::norm was not finite: one i64 on the parameters' device, so look
  /// seldom. Undefined before the first step with a norm.
  [[nodiscard]] const Tensor& skipped() const { return skipped_; }

  /// Learning rate of the first group.
  [[nodiscard]] virtual double lr() const = 0;
  /// Sets the learning rate of every group. @throws ConfigError when negative or not a number, CaptureError while a
  /// step is being captured: that would set it once, not in every step.
  virtual void set_lr(double lr) = 0;

  /// All parameters of all groups, in order.
  [[nodiscard]] std::vector<Tensor> parameters() const;
  /// Names of the parameters that step() passes over because they have no gradient. After a backward of a whole model
  /// this should be empty; a name in it belongs to a layer that the loss does not depend on.
  [[nodiscard]] std::vector<std::string> without_grad() const;
  [[nodiscard]] virtual std::size_t group_count() const = 0;

  /// Everything that the next steps depend on besides parameters and gradients, as tensors, so that one safetensors
  /// file holds it exactly. For a parameter p: `state.p.step` (i64) and, once it has made a step, `state.p.exp_avg` and
  /// so on, and `state.p.master` where there is one; for a group i: `param_groups.i.lr` (f64) and so on. Handles, not
  /// copies.
  [[nodiscard]] StateDict state_dict() const;
  /// Continues where another optimizer's state_dict() stood, options included. Either all of it is taken or nothing.
  /// A master copy for a parameter that is wide enough itself becomes the parameter's value.
  /// @throws ConfigError listing every missing, unexpected and mismatched key: the state of another model.
  void load_state_dict(const StateDict& state);

 protected:
  /// What is remembered about one parameter.
  struct Slot {
    std::string name;
    Tensor parameter;
    std::size_t group = 0;
    std::int64_t step = 0;             ///< updates made
    std::vector<Tensor> state;         ///< empty before the first update, otherwise one tensor per state name
    Tensor master;                     ///< f32 copy of a 16-bit parameter, if the optimizer keeps one
    std::weak_ptr<Storage> written{};  ///< the parameter's memory after the last update, and its version then
    std::uint32_t version = 0;
  };
  /// Options of one group under their names; booleans as 0 and 1.
  using OptionVisitor = std::function<void(const char* name, double& value)>;

  /// `name` is the class, for error texts; `state_names` says what slots hold.
  Optimizer(const char* name, std::vector<std::string> state_names);

  /// @throws ConfigError for no parameters, an undefined one, one given twice, or a name used twice; AutogradError for
  ///   one that is not a leaf; DtypeError for integers.
  void add_slots(const std::vector<NamedTensor>& parameters, std::size_t group);
  /// Creates the state of a slot, or moves it to where and what its parameter is now.
  void prepare_state(Slot& slot);
  /// Changes whenever the state of any slot gets other memory, and when slots are added.
  [[nodiscard]] std::uint64_t state_places() const { return state_places_; }
  /// Whether an f32 copy of this parameter is kept, in which updates smaller than its rounding add up.
  [[nodiscard]] virtual bool keeps_master(const Slot&) const { return false; }
  /// Whether somebody else has written to the parameter since the last update.
  [[nodiscard]] static bool changed_by_others(const Slot& slot);
  /// Takes over into the master copy what others have written: elements that are not its rounded values.
  static void follow_parameter(const Slot& slot);
  /// Notes that an update has written to the parameter.
  void note_written(Slot& slot) const;
  /// Checks StepOptions::norm, and makes the counter. @throws DtypeError, ShapeError, ConfigError.
  void prepare_norm(const StepOptions& options);
  /// @throws CaptureError while a step is being captured.
  static void refuse_while_captured(const char* what);
  /// The gradient in row-major order, or undefined.
  [[nodiscard]] Tensor gradient_of(const Slot& slot) const;
  /// Calls `visit` with each option of a group; what it assigns is kept.
  virtual void visit_options(std::size_t group, const OptionVisitor& visit) = 0;
  [[nodiscard]] const char* name() const { return name_; }
  [[nodiscard]] std::vector<Slot>& slots() { return slots_; }
  [[nodiscard]] const std::vector<Slot>& slots() const { return slots_; }

 private:
  const char* name_;
  Tensor skipped_;
  std::uint64_t state_places_ = 0;
  std::vector<std::string> state_names_;
  std::vector<Slot> slots_;
};

/// Groups with options of one kind. `Options` has a member `lr`, and functions validate(), which throws, and visit(f),
/// which calls f(name, reference) for every option.
template <class Options>
class GroupedOptimizer : public Optimizer {
 public:
  /// @throws ConfigError for options that make no sense, and as add_slots().
  void add_param_group(const ParamGroup<Options>& group) {
    group.options.validate();
    add_slots(group.parameters, options_.size());
    options_.push_back(group.options);
  }

  [[nodiscard]] std::size_t group_count() const override { return options_.size(); }
  /// Options of one group, to read or to change between steps. @throws std::out_of_range.
  [[nodiscard]] Options& options(std::size_t group) { return options_.at(group); }
  [[nodiscard]] const Options& options(std::size_t group) const { return options_.at(group); }

  [[nodiscard]] double lr() const override { return options_.front().lr; }
  void set_lr(double lr) override {
    refuse_while_captured("set_lr");
    Options changed = options_.front();
    changed.lr = lr;
    changed.validate();
    for (Options& options : options_) options.lr = lr;
  }

 protected:
  GroupedOptimizer(const char* name, std::vector<std::string> state_names,
                   const std::vector<ParamGroup<Options>>& groups)
      : Optimizer(name, std::move(state_names)) {
    for (const auto& group : groups) add_param_group(group);
  }

  void visit_options(std::size_t group, const OptionVisitor& visit) override {
    options_.at(group).visit([&](const char* name, auto& value) {
      auto number = static_cast<double>(value);
      visit(name, number);
      value = static_cast<std::remove_reference_t<decltype(value)>>(number);
    });
  }

 private:
  std::vector<Options> options_;
};

/// The parameters without names, for small programs.
[[nodiscard]] std::vector<NamedTensor> unnamed(const std::vector<Tensor>& parameters);

/// The usual two groups: tensors of two or more dims keep `options.weight_decay`; the rest (biases, gains) get 0.
/// A group that would be empty is left out.
template <class Options>
[[nodiscard]] std::vector<ParamGroup<Options>> decay_groups(const std::vector<NamedTensor>& parameters,
                                                            const Options& options) {
  ParamGroup<Options> decayed{{}, options}, plain{{}, options};
  plain.options.weight_decay = 0;
  for (const NamedTensor& p : parameters) (p.tensor.rank() >= 2 ? decayed : plain).parameters.push_back(p);
  std::vector<ParamGroup<Options>> groups;
  for (auto& group : {decayed, plain}) {
    if (!group.parameters.empty()) groups.push_back(group);
  }
  return groups;
}

/// The same for all parameters of a module.
template <class Module, class Options>
requires requires(const Module& m) { m.named_parameters(); }
[[nodiscard]] std::vector<ParamGroup<Options>> decay_groups(const Module& module, const Options& options) {
  return decay_groups(module.named_parameters(), options);
}

}  // namespace trinix::optim
