#pragma once

#include <memory>
#include <optional>

#include <trinix/autograd/ops/glu.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/generator.h>
#include <trinix/layers/linear.h>

/// @file
/// Gated linear units with their projection: SwiGLU, GeGLU, ReGLU. Shazeer, arXiv 2002.05202.

namespace trinix::nn {

struct GluOptions {
  std::int64_t input_dim = 0;
  std::int64_t hidden_dim = 0;
  bool bias = false;
  GluOrder order = GluOrder::gate_first;  ///< Trinix's weights are value_first
  std::optional<double> init_std = {};    ///< as LinearOptions::init_std
  TensorOptions tensor = {};
  Generator* generator = nullptr;
  KernelChoice kernel = {};
};

/// x (..., input_dim) -> act(x Wg^T + bg) * (x Wv^T + bv), (..., hidden_dim). One projection makes both factors.
/// Parameters: proj.weight (2 hidden_dim, input_dim), with Wg in the first hidden_dim rows for GluOrder::gate_first and
/// in the last for value_first; proj.bias (2 hidden_dim) likewise. There is no projection back: GatedFeedForward adds
/// it.
class GatedLinearUnit : public Layer {
 public:
  /// @throws ConfigError unless both sizes are positive.
  GatedLinearUnit(Glu kind, const GluOptions& options);

  [[nodiscard]] Tensor forward(const Tensor& x) const override;
  [[nodiscard]] const Linear& projection() const { return *projection_; }

 private:
  Glu kind_;
  GluOrder order_;
  KernelChoice kernel_;
  std::shared_ptr<Linear> projection_;
};

/// silu(gate) * value.
class SwiGLU : public GatedLinearUnit {
 public:
  explicit SwiGLU(const GluOptions& options) : GatedLinearUnit(Glu::swiglu, options) {}
};

/// gelu(gate) * value.
class GeGLU : public GatedLinearUnit {
 public:
  explicit GeGLU(const GluOptions& options, Gelu form = Gelu::erf)
      : GatedLinearUnit(form == Gelu::erf ? Glu::geglu_erf : Glu::geglu_tanh, options) {}
};

/// relu(gate) * value.
class ReGLU : public GatedLinearUnit {
 public:
  explicit ReGLU(const GluOptions& options) : GatedLinearUnit(Glu::reglu, options) {}
};

}  // namespace trinix::nn
