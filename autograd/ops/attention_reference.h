#pragma once

#include <trinix/autograd/ops/attention_arguments.h>

/// @file
/// Attention composed of primitives. Private.

namespace trinix {

/// What the kernels compute, with the whole matrix of scores in memory: q (B, Sq, H, D), k and v likewise. lse
/// (B, H, Sq) is left undefined unless wanted. With starts, B is 1 and the sequences lie along the second dim.
AttentionResult attention_reference(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionExtras& extras,
                                    const Attention::Inputs& in, bool lse_wanted);

}  // namespace trinix
