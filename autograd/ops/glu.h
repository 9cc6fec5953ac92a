#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/ops/glu.h>
#include <trinix/core/tensor.h>

/// @file
/// Gated linear units: activation(gate) * value in one pass.

namespace trinix {

/// What the two halves of a packed tensor are.
enum class GluOrder : std::uint8_t {
  gate_first,  ///< [gate | value], as a projection packed from Llama's gate_proj and up_proj
  value_first  ///< [value | gate]: x1 * silu(x2), as in Trinix
};

/// packed (..., 2F), any strides -> (..., F). The gradient of `packed` is written in one pass; memory kept for the
/// backward: `packed`. Shazeer, arXiv 2002.05202.
/// @throws ShapeError for a last dim that is odd or missing, DtypeError, KernelUnavailable.
[[nodiscard]] Tensor glu(const Tensor& packed, Glu kind, GluOrder order = GluOrder::gate_first,
                         KernelChoice kernel = {});

/// The same of two tensors of one shape and dtype, any strides. @throws ShapeError, DtypeError, DeviceError,
/// KernelUnavailable.
[[nodiscard]] Tensor glu(const Tensor& gate, const Tensor& value, Glu kind, KernelChoice kernel = {});

}  // namespace trinix
