#pragma once

#include <trinix/core/ops/flat.h>
#include <trinix/core/tensor.h>

/// @file
/// From a tensor to what a kernel over many tensors sees of it. Private.

namespace trinix::optim {

/// `t` must be row-major, and must outlive the result.
[[nodiscard]] inline Flat flat(const Tensor& t) { return {t.raw_data(), t.numel(), t.dtype()}; }

}  // namespace trinix::optim
