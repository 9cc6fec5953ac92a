#pragma once

#include <trinix/core/ops/elementwise.h>

/// @file
/// Unary for one storage type, each compiled in a file of its own.

namespace trinix::cuda {

/// @throws DtypeError when the function does not take T.
template <class T>
void unary_values(const Unary::Forward& args, const Stream& stream);

/// T is a floating-point type.
template <class T>
void unary_gradients(const Unary::Backward& args, const Stream& stream);

extern template void unary_values<float>(const Unary::Forward&, const Stream&);
extern template void unary_gradients<float>(const Unary::Backward&, const Stream&);
extern template void unary_values<double>(const Unary::Forward&, const Stream&);
extern template void unary_gradients<double>(const Unary::Backward&, const Stream&);
extern template void unary_values<bfloat16>(const Unary::Forward&, const Stream&);
extern template void unary_gradients<bfloat16>(const Unary::Backward&, const Stream&);
extern template void unary_values<float16>(const Unary::Forward&, const Stream&);
extern template void unary_gradients<float16>(const Unary::Backward&, const Stream&);

}  // namespace trinix::cuda
