#pragma once

#include <trinix/core/generator.h>
#include <trinix/layers/module.h>

/// @file
/// Dropout.

namespace trinix::nn {

struct DropoutOptions {
  double p = 0.5;                  ///< probability of setting an element to 0
  Generator* generator = nullptr;  ///< must outlive the layer
};

/// In training mode sets elements to 0 with probability p and scales the rest by 1 / (1 - p); otherwise returns its
/// input. Srivastava et al., JMLR 15 (2014).
class Dropout : public Layer {
 public:
  /// @throws ConfigError unless 0 <= p <= 1.
  explicit Dropout(const DropoutOptions& options = {});

  [[nodiscard]] Tensor forward(const Tensor& x) const override;

  [[nodiscard]] double p() const { return options_.p; }

 private:
  DropoutOptions options_;
};

}  // namespace trinix::nn
