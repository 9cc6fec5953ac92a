#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <trinix/core/state_dict.h>
#include <trinix/core/tensor.h>

/// @file
/// What all optimizers can do, and the groups of parameters that they are made from.

namespace trinix::optim {

/// Parameters that share options. A name is used in error texts and in saved state; an empty one becomes the
/// parameter's position among all.
template <class Options>
struct ParamGroup {
  std::vector<NamedTensor> parameters;
  Options options = {};
};

/// What is done to gradients on their way into an update. None of it costs a pass over them, and none of the tensors is
/// read by the host.
struct StepOptions {
  /// Gradients are multiplied by it, for example by clip_scale().
  double grad_scale = 1;
  /// The same as one f32 on the device: 1 / scale of a loss that was scaled up before backward().
  Tensor inverse_scale = {};
  /// The norm of all gradients as grad_norm_tensor() returns it, before the scales above. Gradients are clipped so that
  /// their norm, after the scales, is at most max_norm. When the norm is not finite the whole update does nothing and
  /// is counted in skipped(); to the bias corrections it is a step all the same.
  Tensor norm = {};
  double max_norm = std::numeric_limits<double>::infinity();
  /// Then every element is bounded to [-clip_value, clip_value].
  double clip_value = std::numeric_limits<double>::infinity();
  /// Throw AutogradError naming the first parameter without a gradient, instead of passing it over.
  bool require_grads = false;
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
  void step(const StepOptions& options = {}) { update(options); }
  /// Calls `closure`, which clears the gradients, computes the loss, calls backward() and returns the loss; then makes
  /// a step and returns that loss.
  template <class F>
  requires std::is_invocable_r_v<Tensor, F&> Tensor step(F&& closure, const StepOptions& options = {}) {
    Tensor loss = closure();
    update(options);
    return loss;
  }
  /// Clears the gradients; keeps their memory.
  virtual void zero_grad() const = 0;
  /// How many steps did nothing because StepOptions::norm was not finite: one i64 on the parameters' device, so look
  /// seldom. Undefined before the first step with a norm.
  [[nodiscard]] virtual const Tensor& skipped() const = 0;

  /// Learning rate of the first group.
  [[nodiscard]] virtual double lr() const = 0;
  /// Sets the learning rate of every group. @throws ConfigError when negative or not a number, CaptureError while a
  /// step is being captured: that would set it once, not in every step.
  virtual void set_lr(double lr) = 0;

  /// All parameters of all groups under their names, in order.
  [[nodiscard]] virtual std::vector<NamedTensor> named_parameters() const = 0;
  [[nodiscard]] std::vector<Tensor> parameters() const;
  /// Names of the parameters that step() passes over because they have no gradient. After a backward of a whole model
  /// this should be empty; a name in it belongs to a layer that the loss does not depend on.
  [[nodiscard]] std::vector<std::string> without_grad() const;
  [[nodiscard]] virtual std::size_t group_count() const = 0;

  /// Everything that the next steps depend on besides parameters and gradients, as tensors, so that one safetensors
  /// file holds it exactly. For a parameter p: `state.p.step` (i64) and, once it has made a step, `state.p.exp_avg` and
  /// so on, and `state.p.master` where there is one; for a group i: `param_groups.i.lr` (f64) and so on. Handles, not
  /// copies.
  [[nodiscard]] virtual StateDict state_dict() const = 0;
  /// Continues where another optimizer's state_dict() stood, options included. Either all of it is taken or nothing.
  /// A master copy for a parameter that is wide enough itself becomes the parameter's value.
  /// @throws ConfigError listing every missing, unexpected and mismatched key: the state of another model.
  virtual void load_state_dict(const StateDict& state) = 0;

 protected:
  Optimizer() = default;
  Optimizer(Optimizer&&) = default;
  Optimizer& operator=(Optimizer&&) = default;
  virtual void update(const StepOptions& options) = 0;
};

/// The parameters without names, for small programs.
[[nodiscard]] std::vector<NamedTensor> unnamed(const std::vector<Tensor>& parameters);

/// The usual two groups: tensors of two or more dims keep `options.weight_decay`; the rest (biases, gains) get 0.
/// Parameters that do not require grad are left out, and so is a group that would be empty.
template <class Options>
[[nodiscard]] std::vector<ParamGroup<Options>> decay_groups(const std::vector<NamedTensor>& parameters,
                                                            const Options& options) {
  ParamGroup<Options> decayed{{}, options}, plain{{}, options};
  plain.options.weight_decay = 0;
  for (const NamedTensor& p : parameters) {
    if (p.tensor.requires_grad()) (p.tensor.rank() >= 2 ? decayed : plain).parameters.push_back(p);
  }
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
