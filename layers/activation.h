#pragma once

#include <trinix/autograd/ops/unary.h>
#include <trinix/layers/module.h>

/// @file
/// Activations as layers, for use in chains. They have no parameters; the formulas stand in core/ops/elementwise.h, and
/// the gated ones, which have, in layers/glu.h.

namespace trinix::nn {

/// activate(x, kActivation).
template <Activation kActivation>
class ActivationLayer : public Layer {
 public:
  explicit ActivationLayer(KernelChoice kernel = {}) : kernel_(kernel) {}
  [[nodiscard]] Tensor forward(const Tensor& x) const override { return activate(x, kActivation, kernel_); }

 private:
  KernelChoice kernel_;
};

/// max(x, 0).
class ReLU : public ActivationLayer<Activation::relu> {
  using ActivationLayer::ActivationLayer;
};

/// x * sigmoid(x).
class SiLU : public ActivationLayer<Activation::silu> {
  using ActivationLayer::ActivationLayer;
};

/// tanh(x).
class Tanh : public ActivationLayer<Activation::tanh> {
  using ActivationLayer::ActivationLayer;
};

/// 1 / (1 + exp(-x)).
class Sigmoid : public ActivationLayer<Activation::sigmoid> {
  using ActivationLayer::ActivationLayer;
};

/// log(1 + exp(x)), without overflow.
class Softplus : public ActivationLayer<Activation::softplus> {
  using ActivationLayer::ActivationLayer;
};

/// x * sigmoid(1.702 x).
class QuickGELU : public ActivationLayer<Activation::quick_gelu> {
  using ActivationLayer::ActivationLayer;
};

/// max(x, 0)^2. So et al., arXiv 2109.08668.
class SquaredReLU : public ActivationLayer<Activation::squared_relu> {
  using ActivationLayer::ActivationLayer;
};

/// x * tanh(softplus(x)). Misra, arXiv 1908.08681.
class Mish : public ActivationLayer<Activation::mish> {
  using ActivationLayer::ActivationLayer;
};

/// gelu(x), in the exact or the tanh form. Hendrycks and Gimpel, arXiv 1606.08415.
class GELU : public Layer {
 public:
  explicit GELU(Gelu form = Gelu::erf, KernelChoice kernel = {})
      : activation_(form == Gelu::erf ? Activation::gelu_erf : Activation::gelu_tanh), kernel_(kernel) {}
  [[nodiscard]] Tensor forward(const Tensor& x) const override { return activate(x, activation_, kernel_); }
  [[nodiscard]] Activation activation() const { return activation_; }

 private:
  Activation activation_;
  KernelChoice kernel_;
};

/// x above 0, negative_slope * x below.
class LeakyReLU : public Layer {
 public:
  explicit LeakyReLU(double negative_slope = 0.01) : negative_slope_(negative_slope) {}
  [[nodiscard]] Tensor forward(const Tensor& x) const override { return leaky_relu(x, negative_slope_); }

 private:
  double negative_slope_;
};

/// x above 0, alpha * (exp(x) - 1) below. Clevert et al., arXiv 1511.07289.
class ELU : public Layer {
 public:
  explicit ELU(double alpha = 1) : alpha_(alpha) {}
  [[nodiscard]] Tensor forward(const Tensor& x) const override { return elu(x, alpha_); }

 private:
  double alpha_;
};

}  // namespace trinix::nn
