#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/tensor.h>

/// @file
/// Softmax and its logarithm along one dim.

namespace trinix {

/// exp(x) / sum(exp(x)) along `dim`, without overflow. A row of only -inf gives zeros with zero gradients, never NaN.
[[nodiscard]] Tensor softmax(const Tensor& x, std::int64_t dim, KernelChoice kernel = {});
[[nodiscard]] Tensor log_softmax(const Tensor& x, std::int64_t dim, KernelChoice kernel = {});

}  // namespace trinix
