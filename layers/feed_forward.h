#pragma once

#include <memory>
#include <optional>

#include <trinix/autograd/ops/glu.h>
#include <trinix/core/generator.h>
#include <trinix/core/kernel.h>
#include <trinix/core/ops/activation.h>
#include <trinix/layers/dropout.h>
#include <trinix/layers/linear.h>
#include <trinix/layers/module.h>

/// @file
/// The blocks of a transformer that look at each token by itself.

namespace trinix::nn {

struct FeedForwardOptions {
  std::int64_t dim = 0;                          ///< width of input and output
  std::int64_t hidden_dim = 0;                   ///< 0: 4 * dim; in GatedFeedForward gated_hidden(dim)
  Activation activation = Activation::gelu_erf;  ///< FeedForward only
  Glu gate = Glu::swiglu;                        ///< GatedFeedForward only
  double dropout = 0;                            ///< on the output
  bool bias = true;
  std::optional<double> init_std = {};         ///< see LinearOptions
  std::optional<double> output_init_std = {};  ///< of the projection back
  TensorOptions tensor = {};
  Generator* generator = nullptr;  ///< for initialisation and dropout; must outlive the layer
  KernelChoice kernel = {};        ///< of the gated unit
};

/// Two thirds of 4 * dim, so that three matrices hold as much as two of the plain block, rounded up to a multiple of 8.
/// Shazeer, arXiv 2002.05202.
[[nodiscard]] std::int64_t gated_hidden(std::int64_t dim);

/// x (..., dim) -> dropout(down_proj(activation(up_proj(x)))). Vaswani et al., arXiv 1706.03762.
/// Parameters: up_proj.weight (hidden_dim, dim), down_proj.weight (dim, hidden_dim), a bias each.
class FeedForward : public Layer {
 public:
  /// @throws ConfigError for sizes that are not positive, and for a dropout that is no probability.
  explicit FeedForward(const FeedForwardOptions& options);
  [[nodiscard]] Tensor forward(const Tensor& x) const override;

 protected:
  /// With other names for the projections.
  FeedForward(const char* up, const char* down, const FeedForwardOptions& options);

 private:
  Activation activation_;
  std::shared_ptr<Linear> up_;
  std::shared_ptr<Linear> down_;
  std::shared_ptr<Dropout> dropout_;
};

/// x (..., dim) -> dropout(down_proj(act(gate_proj(x)) * up_proj(x))). Shazeer, arXiv 2002.05202.
/// Parameters, named as in Hugging Face's Llama: gate_proj.weight and up_proj.weight (hidden_dim, dim),
/// down_proj.weight (dim, hidden_dim), a bias each.
class GatedFeedForward : public Layer {
 public:
  /// @throws as FeedForward.
  explicit GatedFeedForward(const FeedForwardOptions& options);
  [[nodiscard]] Tensor forward(const Tensor& x) const override;

 private:
  Glu gate_;
  KernelChoice kernel_;
  std::shared_ptr<Linear> gate_proj_;
  std::shared_ptr<Linear> up_proj_;
  std::shared_ptr<Linear> down_proj_;
  std::shared_ptr<Dropout> dropout_;
};

}  // namespace trinix::nn
