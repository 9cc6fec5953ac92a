#pragma once

#include <functional>
#include <string>
#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Checks gradients against finite differences.

namespace trinix {

struct GradcheckOptions {
  double eps = 1e-6;   ///< step of the central difference
  double atol = 1e-5;  ///< allowed |analytic - numeric| beyond rtol * |numeric|
  double rtol = 1e-3;
  int projections = 2;  ///< random directions in the space of outputs along which the gradient is checked
};

/// What gradcheck() found.
struct GradcheckReport {
  bool ok = true;
  std::string message;  ///< the first mismatch: input, element, both values
  explicit operator bool() const { return ok; }
};

/// Compares the gradient of <w, function(inputs)> for random w with central differences in every element of every input
/// that requires grad, runs the backward twice and demands the same bits, and demands a gradient for every such input.
///
/// Inputs that require grad must be f64 leaves on the CPU whose elements do not share memory; any strides. The function
/// must be deterministic and smooth around the inputs (keep away from kinks such as relu at 0).
/// @throws DtypeError, DeviceError, AutogradError for inputs that cannot be checked.
[[nodiscard]] GradcheckReport gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& function,
                                        const std::vector<Tensor>& inputs, const GradcheckOptions& options = {});

}  // namespace trinix
