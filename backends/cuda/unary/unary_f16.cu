#include <trinix/backends/cuda/unary/unary.cuh>

namespace trinix::cuda {

template void unary_values<float16>(const Unary::Forward&, const Stream&);
template void unary_gradients<float16>(const Unary::Backward&, const Stream&);

}  // namespace trinix::cuda
