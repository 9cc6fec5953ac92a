#pragma once

#include <span>
#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Reverse-mode differentiation over the recorded graph.

namespace trinix {

struct BackwardOptions {
  /// Keeps what the graph saved, so that another backward may pass through it.
  bool retain_graph = false;
};

/// Adds the gradients of sum_i <outputs[i], gradients[i]> to grad() of every leaf. An undefined gradient stands for 1
/// and is allowed for one-element outputs. Walks the graph iteratively, later ops first, so that the order of
/// additions, and with it every bit of the result, is the same from run to run.
///
/// Gradients are not differentiable themselves: the backward of an op is not recorded.
/// @throws AutogradError: output without history, non-scalar output without gradient, graph already used, saved tensor
///   changed in place; ShapeError, DtypeError for a gradient that does not fit its output.
void backward(std::span<const Tensor> outputs, std::span<const Tensor> gradients, const BackwardOptions& options = {});

/// Gradients of the outputs with respect to `inputs` (leaves or not), returned instead of accumulated; grad() of every
/// tensor stays as it is. An input that the outputs do not depend on gives an undefined tensor when `allow_unused`,
/// otherwise an AutogradError.
[[nodiscard]] std::vector<Tensor> grad(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                                       std::span<const Tensor> gradients = {}, const BackwardOptions& options = {},
                                       bool allow_unused = false);

/// grad() for one output.
[[nodiscard]] inline std::vector<Tensor> grad(const Tensor& output, const std::vector<Tensor>& inputs,
                                              const Tensor& gradient = {}, const BackwardOptions& options = {},
                                              bool allow_unused = false) {
  return grad(std::span(&output, 1), std::span(inputs), std::span(&gradient, 1), options, allow_unused);
}

}  // namespace trinix
