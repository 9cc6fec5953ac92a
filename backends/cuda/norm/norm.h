#pragma once

#include <trinix/core/backend.h>
#include <trinix/core/half.h>
#include <trinix/core/ops/norm_arguments.h>

/// @file
/// Normalisation on the card: the host's side. Each storage type is compiled in a file of its own.

namespace trinix::cuda {

enum class NormKind { layer, rms, rms_activation };

/// No empty tensors.
template <class T>
void norm_forward_as(NormKind kind, const NormForward& args, const Stream& stream);
template <class T>
void norm_backward_as(NormKind kind, const NormBackward& args, const Stream& stream);

extern template void norm_forward_as<float>(NormKind, const NormForward&, const Stream&);
extern template void norm_backward_as<float>(NormKind, const NormBackward&, const Stream&);
extern template void norm_forward_as<double>(NormKind, const NormForward&, const Stream&);
extern template void norm_backward_as<double>(NormKind, const NormBackward&, const Stream&);
extern template void norm_forward_as<bfloat16>(NormKind, const NormForward&, const Stream&);
extern template void norm_backward_as<bfloat16>(NormKind, const NormBackward&, const Stream&);
extern template void norm_forward_as<float16>(NormKind, const NormForward&, const Stream&);
extern template void norm_backward_as<float16>(NormKind, const NormBackward&, const Stream&);

/// Any dtype, empty tensors included; `kKind` as a function that a kernel's record can hold.
void norm_forward(NormKind kind, const NormForward& args, const Stream& stream);
void norm_backward(NormKind kind, const NormBackward& args, const Stream& stream);

template <NormKind kKind>
void norm_forward_of(const NormForward& args, const Stream& stream) {
  norm_forward(kKind, args, stream);
}
template <NormKind kKind>
void norm_backward_of(const NormBackward& args, const Stream& stream) {
  norm_backward(kKind, args, stream);
}

}  // namespace trinix::cuda
