#pragma once

#include <functional>
#include <vector>

#include <trinix/core/generator.h>
#include <trinix/core/tensor.h>

/// @file
/// Activation checkpointing: memory for time.

namespace trinix {

struct CheckpointOptions {
  /// Generators other than default_generator() from which the function draws.
  std::vector<Generator*> generators = {};
};

/// function(inputs), of which only the inputs and the results are kept: the backward calls the function again, with the
/// generators set back so that dropout draws the same masks, and differentiates that second run. Gradients flow to the
/// inputs and to every tensor that the function captures, parameters included. T. Chen et al., arXiv:1604.06174.
///
/// The function must do the same both times and must not change anything it captures; other threads must not draw from
/// its generators meanwhile. Checkpoints may be nested.
/// @throws AutogradError during backward when an input or a captured leaf was changed in place since, or when the
///   second run uses other tensors than the first.
[[nodiscard]] Tensor checkpoint(const std::function<Tensor(const std::vector<Tensor>&)>& function,
                                const std::vector<Tensor>& inputs, const CheckpointOptions& options = {});

/// The same for a function with several results.
[[nodiscard]] std::vector<Tensor> checkpoint_all(
    const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& function, const std::vector<Tensor>& inputs,
    const CheckpointOptions& options = {});

}  // namespace trinix
