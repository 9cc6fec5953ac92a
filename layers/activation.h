#pragma once

#include <trinix/autograd/ops/unary.h>
#include <trinix/layers/module.h>

/// @file
/// Activations as layers, for use in chains. They have no parameters; the formulas stand in core/ops/elementwise.h.

namespace trinix::nn {

/// gelu(x), in the exact or the tanh form. Hendrycks and Gimpel, arXiv 1606.08415.
class GELU : public Layer {
 public:
  explicit GELU(Gelu form = Gelu::erf) : form_(form) {}
  [[nodiscard]] Tensor forward(const Tensor& x) const override { return gelu(x, form_); }

 private:
  Gelu form_;
};

/// max(x, 0).
class ReLU : public Layer {
 public:
  [[nodiscard]] Tensor forward(const Tensor& x) const override { return relu(x); }
};

/// x * sigmoid(x).
class SiLU : public Layer {
 public:
  [[nodiscard]] Tensor forward(const Tensor& x) const override { return silu(x); }
};

/// tanh(x).
class Tanh : public Layer {
 public:
  [[nodiscard]] Tensor forward(const Tensor& x) const override { return tanh(x); }
};

/// 1 / (1 + exp(-x)).
class Sigmoid : public Layer {
 public:
  [[nodiscard]] Tensor forward(const Tensor& x) const override { return sigmoid(x); }
};

}  // namespace trinix::nn
