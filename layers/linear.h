#pragma once

#include <optional>

#include <trinix/core/generator.h>
#include <trinix/layers/module.h>

/// @file
/// The affine map.

namespace trinix::nn {

struct LinearOptions {
  std::int64_t in_features = 0;
  std::int64_t out_features = 0;
  bool bias = true;
  /// Weights from N(0, init_std^2) and a bias of 0, as in GPT-2. Without it both come from U(-1/sqrt(in), 1/sqrt(in)),
  /// as in PyTorch.
  std::optional<double> init_std = {};
  TensorOptions tensor = {};
  Generator* generator = nullptr;  ///< default_generator() when null; as in every layer
};

/// y = x weight^T + bias for x (..., in) -> (..., out). Parameters: weight (out, in), bias (out).
class Linear : public Layer {
 public:
  /// @throws ConfigError unless both sizes are positive.
  explicit Linear(const LinearOptions& options);
  /// Shares the given parameters, for example the token embedding as an output head.
  explicit Linear(Tensor weight, Tensor bias = {});

  [[nodiscard]] Tensor forward(const Tensor& x) const override;

  [[nodiscard]] const Tensor& weight() const { return weight_; }
  /// Undefined without a bias.
  [[nodiscard]] const Tensor& bias() const { return bias_; }

 private:
  Tensor weight_;
  Tensor bias_;
};

}  // namespace trinix::nn
