#pragma once

#include <trinix/optim/elementwise.h>

/// @file
/// Stochastic gradient descent.

namespace trinix::optim {

/// Names and defaults of torch.optim.SGD.
struct SGDOptions {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;     ///< of the gradient on its way into the momentum buffer, from the second step on
  double weight_decay = 0;  ///< times the parameter, added to the gradient (L2 form)
  bool nesterov = false;    ///< needs a momentum and no dampening
  bool maximize = false;
  StateOptions state = {};

  /// @throws ConfigError for a negative lr, momentum or weight_decay, and for nesterov without momentum or with
  /// dampening.
  void validate() const;
  /// Calls f(name, value) for each option that is saved.
  template <class F>
  void visit(F&& f) {
    f("lr", lr);
    f("momentum", momentum);
    f("dampening", dampening);
    f("weight_decay", weight_decay);
    f("nesterov", nesterov);
    f("maximize", maximize);
  }
};

/// With momentum in the form of Sutskever et al., "On the importance of initialization and momentum in deep learning",
/// ICML 2013, as PyTorch writes it: the learning rate multiplies the buffer when it is used, not when it is filled.
/// State: with momentum, momentum_buffer.
class SGD : public GroupedOptimizer<SGDOptions, ElementwiseOptimizer> {
 public:
  explicit SGD(const std::vector<ParamGroup<SGDOptions>>& groups);
  explicit SGD(const std::vector<NamedTensor>& parameters, const SGDOptions& options = {})
      : SGD(std::vector<ParamGroup<SGDOptions>>{{parameters, options}}) {}
  explicit SGD(const std::vector<Tensor>& parameters, const SGDOptions& options = {})
      : SGD(unnamed(parameters), options) {}

 protected:
  [[nodiscard]] UpdateKind kind(std::size_t group) const override;
  [[nodiscard]] UpdateRule rule(std::size_t group) const override;
};

}  // namespace trinix::optim
