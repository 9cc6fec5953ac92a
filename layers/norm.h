#pragma once

#include <utility>

#include <trinix/autograd/ops/norm.h>
#include <trinix/core/kernel.h>
#include <trinix/layers/module.h>

/// @file
/// Normalisation layers.

namespace trinix::nn {

struct LayerNormOptions {
  std::int64_t features = 0;  ///< size of the last dim
  double eps = 1e-5;
  bool affine = true;  ///< with a weight
  bool bias = true;    ///< with a bias too; means nothing without `affine`
  TensorOptions tensor = {};
  KernelChoice kernel = {};
};

/// (x - mean) / sqrt(var + eps) * weight + bias over the last dim. Ba et al., arXiv 1607.06450.
/// Parameters: weight (features), ones; bias (features), zeros.
class LayerNorm : public Layer {
 public:
  /// @throws ConfigError unless features and eps are positive.
  explicit LayerNorm(const LayerNormOptions& options);

  [[nodiscard]] Tensor forward(const Tensor& x) const override;
  /// The residual step of a pre-norm block: {x + delta, norm of x + delta}. An undefined delta stands for 0. `dropout`
  /// is applied to delta, whatever the layer's mode: training is the caller's to ask for.
  [[nodiscard]] std::pair<Tensor, Tensor> add_and_norm(const Tensor& x, const Tensor& delta,
                                                       BranchDropout dropout = {}) const;

  [[nodiscard]] const Tensor& weight() const { return weight_; }
  [[nodiscard]] const Tensor& bias() const { return bias_; }

 private:
  Tensor weight_;
  Tensor bias_;
  double eps_;
  KernelChoice kernel_;
};

struct RMSNormOptions {
  std::int64_t features = 0;  ///< size of the last dim
  double eps = 1e-6;
  bool weight = true;
  bool bias = false;
  TensorOptions tensor = {};
  KernelChoice kernel = {};
};

/// x / sqrt(mean(x^2) + eps) * weight + bias over the last dim. Zhang and Sennrich, arXiv 1910.07467.
/// Parameters: weight (features), ones; bias (features), zeros.
class RMSNorm : public Layer {
 public:
  /// @throws ConfigError unless features and eps are positive.
  explicit RMSNorm(const RMSNormOptions& options);

  [[nodiscard]] Tensor forward(const Tensor& x) const override;
  /// As LayerNorm::add_and_norm().
  [[nodiscard]] std::pair<Tensor, Tensor> add_and_norm(const Tensor& x, const Tensor& delta,
                                                       BranchDropout dropout = {}) const;
  /// activation(forward(x)) in one pass.
  [[nodiscard]] Tensor norm_and_activate(const Tensor& x, Activation activation) const;

  [[nodiscard]] const Tensor& weight() const { return weight_; }
  [[nodiscard]] const Tensor& bias() const { return bias_; }

 private:
  Tensor weight_;
  Tensor bias_;
  double eps_;
  KernelChoice kernel_;
};

}  // namespace trinix::nn
