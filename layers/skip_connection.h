#pragma once

#include <memory>

#include <trinix/layers/dropout.h>
#include <trinix/layers/module.h>

/// @file
/// A layer with a way around it.

namespace trinix::nn {

/// x + dropout(branch(x)). He et al., arXiv 1512.03385. Its parameters are those of the branch, under "branch".
class SkipConnection : public Layer {
 public:
  /// @throws ConfigError for a dropout that is no probability, or a branch that is null.
  explicit SkipConnection(std::shared_ptr<Layer> branch, const DropoutOptions& dropout = {.p = 0});

  [[nodiscard]] Tensor forward(const Tensor& x) const override;

  [[nodiscard]] const Layer& branch() const { return *branch_; }
  [[nodiscard]] const DropoutOptions& dropout() const { return dropout_; }

 private:
  DropoutOptions dropout_;
  std::shared_ptr<Layer> branch_;
};

}  // namespace trinix::nn
