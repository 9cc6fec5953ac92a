#pragma once

#include <string>
#include <vector>

#include <trinix/core/state_dict.h>

/// @file
/// How the gradients of single parameters look: for finding the layer in which training goes wrong.

namespace trinix::optim {

/// Of the gradient of one parameter.
struct GradStatistics {
  std::string name;
  double norm = 0;        ///< its 2-norm; not finite when an element is not
  double max_abs = 0;     ///< its largest absolute value; NaN when an element is
  double zeros = 0;       ///< the share of elements that are 0
  double non_finite = 0;  ///< the share of elements that are infinite or NaN
};

/// One entry for each parameter that has a gradient, in their order. Gradients are divided by `scale`, which those of a
/// scaled loss were multiplied by. A dozen passes over them, and the host waits once: not for every step.
[[nodiscard]] std::vector<GradStatistics> grad_statistics(const std::vector<NamedTensor>& parameters, double scale = 1);

}  // namespace trinix::optim
