#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include <trinix/core/backend.h>
#include <trinix/core/ops/gradient_factor.h>
#include <trinix/optim/optimizer.h>

/// @file
/// The base of the optimizers that hold parameters: which there are, in which groups, and what is remembered about
/// each.

namespace trinix::optim {

/// In which types an optimizer keeps what it remembers. No part of the saved options.
struct StateOptions {
  /// Whether 16-bit parameters get a master copy in f32, which is what is updated: without it, updates smaller than a
  /// parameter's rounding (1/256 of a bf16) are lost. The copy is saved.
  bool master_weights = true;
  /// Keeps the first moment (Adam's exp_avg, Lion's exp_avg, the momentum buffer of SGD and Muon) in bf16, which saves
  /// 4 of AdamW's 28 bytes of traffic per parameter. Moments of f64 parameters stay f64.
  bool bf16_first_moment = false;
  /// Rounds bf16 parameters without a master copy up or down at random, in proportion to the distance, so that small
  /// updates are made on average. Needs master_weights = false; other dtypes are not concerned.
  bool stochastic_rounding = false;
  /// The random numbers depend on it, on the parameter's place among all, and on its step; on nothing else.
  std::uint64_t seed = 0;

  friend bool operator==(const StateOptions&, const StateOptions&) = default;
};

/// Holds parameters and what is remembered about each.
class ParameterOptimizer : public Optimizer {
 public:
  void zero_grad() const override;
  [[nodiscard]] const Tensor& skipped() const override { return skipped_; }
  [[nodiscard]] std::vector<NamedTensor> named_parameters() const override;
  [[nodiscard]] StateDict state_dict() const override;
  void load_state_dict(const StateDict& state) override;

 protected:
  /// What is remembered about one parameter.
  struct Slot {
    std::string name;
    Tensor parameter;
    std::size_t group = 0;
    std::int64_t step = 0;             ///< updates made
    std::vector<Tensor> state;         ///< empty before the first update, otherwise one tensor per state name in use
    Tensor master;                     ///< f32 copy of a 16-bit parameter, if the optimizer keeps one
    std::weak_ptr<Storage> written{};  ///< the parameter's memory after the last update, and its version then
    std::uint32_t version = 0;
  };
  /// Options of one group under their names; booleans as 0 and 1.
  using OptionVisitor = std::function<void(const char* name, double& value)>;

  /// `name` is the class, for error texts; `state_names` says what slots may hold, the first moment first.
  ParameterOptimizer(const char* name, std::vector<std::string> state_names);

  // What a derived class says ----------------------------------------------------------------------------------------
  /// Calls `visit` with each option of a group; what it assigns is kept.
  virtual void visit_options(std::size_t group, const OptionVisitor& visit) = 0;
  /// @throws ConfigError for options that make no sense: they may have been changed since they were given, or loaded.
  virtual void validate(std::size_t group) const = 0;
  [[nodiscard]] virtual const StateOptions& state_options(std::size_t group) const = 0;
  /// How many of the state names, from the first on, are in use with the group's options.
  [[nodiscard]] virtual std::size_t state_count(std::size_t) const { return state_names_.size(); }

  // Slots ------------------------------------------------------------------------------------------------------------
  /// @throws ConfigError for no parameters, an undefined one, one given twice, or a name used twice; AutogradError for
  ///   one that is not a leaf or does not require grad; DtypeError for integers.
  void add_slots(const std::vector<NamedTensor>& parameters, std::size_t group);
  /// Creates the state of a slot, or moves it to where and what its parameter is now.
  void prepare_state(Slot& slot);
  /// Changes whenever the state of any slot gets other memory, and when slots are added.
  [[nodiscard]] std::uint64_t state_places() const { return state_places_; }
  /// Whether an f32 copy of this parameter is kept, in which updates smaller than its rounding add up.
  [[nodiscard]] bool keeps_master(const Slot& slot) const;
  [[nodiscard]] bool rounds_stochastically(const Slot& slot) const;
  /// Whether somebody else has written to the parameter since the last update.
  [[nodiscard]] static bool changed_by_others(const Slot& slot);
  /// Takes over into the master copy what others have written: elements that are not its rounded values.
  static void follow_parameter(const Slot& slot);
  /// Notes that an update has written to the parameter.
  void note_written(Slot& slot) const;
  /// The gradient in row-major order, or undefined.
  [[nodiscard]] Tensor gradient_of(const Slot& slot) const;

  // A step -----------------------------------------------------------------------------------------------------------
  /// Checks the options, and makes the counter of skipped steps. @throws DtypeError, ShapeError, ConfigError,
  /// AutogradError.
  void prepare_step(const StepOptions& options);
  /// What kernels on `device` do with gradients. @throws DeviceError when the norm or the scale is elsewhere.
  [[nodiscard]] GradientFactor gradient_factor_on(Device device, const StepOptions& options) const;
  /// Counts the step of these slots, and notes that they were written to.
  void count_step(const std::vector<std::size_t>& indices);
  /// The same before each replay of the step that is being captured. `write` rewrites what kernels read in device
  /// memory. The step is captured anew when `holds` no longer does, when a parameter or state moves, or when slots that
  /// had made equal numbers of steps no longer have.
  void follow_replays(const std::vector<std::size_t>& indices, std::function<bool()> holds,
                      std::function<void(const Stream&)> write);
  /// @throws CaptureError while a step is being captured.
  static void refuse_while_captured(const char* what);
  /// @throws CaptureError while a step is being captured on another device.
  void refuse_other_capture(Device device) const;

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

/// @throws ConfigError unless 0 <= value < infinity.
void check_not_negative(const char* optimizer, const char* option, double value);
/// @throws ConfigError unless both lie in [0, 1).
void check_betas(const char* optimizer, double beta1, double beta2);
/// @throws ConfigError for stochastic rounding beside a master copy.
void check_state_options(const char* optimizer, const StateOptions& options);
[[noreturn]] void fail_saved_option(const char* option, double value);

/// Groups with options of one kind. `Options` has members `lr` and `state` (StateOptions), and functions validate(),
/// which throws, and visit(f), which calls f(name, reference) for every option that is saved. An optional check(name,
/// tensor) throws for a parameter that does not suit.
template <class Options, class Base = ParameterOptimizer>
class GroupedOptimizer : public Base {
 public:
  /// @throws ConfigError for options that make no sense, and for parameters that do not suit, with their names.
  void add_param_group(const ParamGroup<Options>& group) {
    group.options.validate();
    if constexpr (requires(const std::string& name, const Tensor& t) { group.options.check(name, t); }) {
      std::size_t place = this->slots().size();
      for (const NamedTensor& p : group.parameters) {
        const std::string name = p.name.empty() ? std::to_string(place) : p.name;
        ++place;
        if (p.tensor.defined()) group.options.check(name, p.tensor);
      }
    }
    this->add_slots(group.parameters, options_.size());
    options_.push_back(group.options);
  }

  [[nodiscard]] std::size_t group_count() const override { return options_.size(); }
  /// Options of one group, to read or to change between steps. @throws std::out_of_range.
  [[nodiscard]] Options& options(std::size_t group) { return options_.at(group); }
  [[nodiscard]] const Options& options(std::size_t group) const { return options_.at(group); }

  [[nodiscard]] double lr() const override { return options_.front().lr; }
  void set_lr(double lr) override {
    this->refuse_while_captured("set_lr");
    Options changed = options_.front();
    changed.lr = lr;
    changed.validate();
    for (Options& options : options_) options.lr = lr;
  }

 protected:
  GroupedOptimizer(const char* name, std::vector<std::string> state_names,
                   const std::vector<ParamGroup<Options>>& groups)
      : Base(name, std::move(state_names)) {
    for (const auto& group : groups) add_param_group(group);
  }

  void visit_options(std::size_t group, const typename Base::OptionVisitor& visit) override {
    options_.at(group).visit([&]<class T>(const char* name, T& value) {
      auto number = static_cast<double>(value);
      visit(name, number);
      if constexpr (!std::is_same_v<T, double>) {
        constexpr double kLargest = 1e6;  // of a count, a boolean or a choice
        if (!(std::abs(number) <= kLargest)) fail_saved_option(name, number);
      }
      value = static_cast<T>(number);
    });
  }
  void validate(std::size_t group) const override { options(group).validate(); }
  [[nodiscard]] const StateOptions& state_options(std::size_t group) const override { return options(group).state; }

 private:
  std::vector<Options> options_;
};

}  // namespace trinix::optim
