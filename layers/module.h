#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <trinix/core/state_dict.h>
#include <trinix/core/tensor.h>

/// @file
/// The base of every layer and model: what has parameters, and the tree that such things form.

namespace trinix::nn {

struct BufferOptions {
  bool persistent = true;  ///< part of state_dict()
};

/// What load_state_dict() found that did not pair up. Both lists are empty after a strict load.
struct LoadReport {
  std::vector<std::string> missing;     ///< the module has it, the dict does not
  std::vector<std::string> unexpected;  ///< the dict has it, the module does not
};

/// Owns parameters, buffers and submodules, each registered under a name. Names of a tree are joined by dots, in the
/// order of registration, as in PyTorch: a checkpoint of one loads into the other.
///
/// A tensor may be registered in several places (tied parameters). Then parameters() lists it once, under the name that
/// comes first, and state_dict() lists it under every name, so that each reader finds the name that it knows.
///
/// Not copyable: a copy would share its parameters with the original, which hardly anybody means. Build a second one
/// and load_state_dict() the first one's.
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Registration. A name is not empty, holds no dot, and is used once among parameters, buffers and submodules of one
  // module. @throws ConfigError otherwise. ----------------------------------------------------------------------------

  /// Makes `value` a parameter, to be trained unless told otherwise, and returns it. It must be a leaf and row-major.
  /// @throws ConfigError, AutogradError, DtypeError.
  Tensor register_parameter(const std::string& name, Tensor value, bool requires_grad = true);
  /// A tensor that belongs to the module's state and is not trained.
  Tensor register_buffer(const std::string& name, Tensor value, const BufferOptions& options = {});
  template <class M>
  std::shared_ptr<M> register_module(const std::string& name, std::shared_ptr<M> module) {
    add_child(name, module);
    return module;
  }

  // The tree ---------------------------------------------------------------------------------------------------------

  /// Every parameter of the module and below, each once.
  [[nodiscard]] std::vector<NamedTensor> named_parameters() const;
  [[nodiscard]] std::vector<Tensor> parameters() const;
  /// Every buffer, persistent or not, each once.
  [[nodiscard]] std::vector<NamedTensor> named_buffers() const;
  /// Direct submodules.
  [[nodiscard]] const std::vector<std::pair<std::string, std::shared_ptr<Module>>>& named_children() const {
    return children_;
  }
  /// This module under the name "", and every module below it, each once.
  [[nodiscard]] std::vector<std::pair<std::string, Module*>> named_modules();
  [[nodiscard]] std::vector<std::pair<std::string, const Module*>> named_modules() const;
  /// Number of values in parameters(); tied ones count once.
  [[nodiscard]] std::int64_t num_parameters() const;

  // Modes ------------------------------------------------------------------------------------------------------------

  /// Sets the mode of the module and everything below; dropout acts in training mode only. The mode at the start.
  void train(bool on = true);
  void eval() { train(false); }
  [[nodiscard]] bool is_training() const { return training_; }
  /// Lets parameters collect gradients or stop doing so.
  void requires_grad_(bool on = true);
  /// Clears every gradient; keeps the memory.
  void zero_grad() const;

  // Where and what ---------------------------------------------------------------------------------------------------

  /// Moves all parameters and buffers. Tensor handles stay valid and follow, so an optimizer goes on with them; the
  /// gradients of what was moved are dropped.
  void to(Device device);
  /// Converts the floating-point ones. @throws DtypeError unless `dtype` is floating point.
  void to(DType dtype);

  // State ------------------------------------------------------------------------------------------------------------

  /// Parameters and persistent buffers by name: handles without history that share the module's memory.
  [[nodiscard]] StateDict state_dict() const;
  /// Copies values into parameters and buffers, converting dtypes within floating point and moving devices. Either all
  /// of it happens or nothing. For tied parameters any one of their names is enough; several must hold equal values.
  /// @throws ConfigError listing every missing, unexpected and mismatched key, with both shapes; when not `strict`,
  /// only
  ///   mismatches are an error and the rest is reported.
  LoadReport load_state_dict(const StateDict& state, bool strict = true);

 private:
  friend class EvalScope;

  struct Buffer {
    std::string name;
    Tensor tensor;
    bool persistent;
  };

  void check_name(const std::string& name) const;
  void add_child(const std::string& name, std::shared_ptr<Module> child);
  /// Calls visit(path, module) for the module and everything below, as often as it is registered; a path ends in a dot.
  void walk(const std::string& path, const std::function<void(const std::string&, const Module&)>& visit) const;
  [[nodiscard]] std::vector<NamedTensor> all_state() const;
  void set_all(const std::function<Tensor(const Tensor&)>& change);

  std::vector<NamedTensor> parameters_;
  std::vector<Buffer> buffers_;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
  bool training_ = true;
};

/// A module that maps one tensor to one. forward() is const: what changes while training lives in tensors.
class Layer : public Module {
 public:
  [[nodiscard]] virtual Tensor forward(const Tensor& x) const = 0;
  [[nodiscard]] Tensor operator()(const Tensor& x) const { return forward(x); }
};

/// Modules under the names "0", "1", ...
template <class M>
class ModuleList : public Module {
 public:
  void push_back(std::shared_ptr<M> module) {
    items_.push_back(register_module(std::to_string(items_.size()), std::move(module)));
  }
  [[nodiscard]] std::size_t size() const { return items_.size(); }
  [[nodiscard]] M& operator[](std::size_t i) const { return *items_.at(i); }
  [[nodiscard]] auto begin() const { return items_.begin(); }
  [[nodiscard]] auto end() const { return items_.end(); }

 private:
  std::vector<std::shared_ptr<M>> items_;
};

/// Puts a module in evaluation mode while it lives, then gives each of its modules the mode that it had.
class EvalScope {
 public:
  explicit EvalScope(Module& module);
  ~EvalScope();
  EvalScope(const EvalScope&) = delete;
  EvalScope& operator=(const EvalScope&) = delete;

 private:
  std::vector<std::pair<Module*, bool>> modes_;
};

}  // namespace trinix::nn
