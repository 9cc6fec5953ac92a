#include <trinix/backends/cuda/unary/unary.cuh>

namespace trinix::cuda {

template void unary_values<float>(const Unary::Forward&, const Stream&);
template void unary_gradients<float>(const Unary::Backward&, const Stream&);

}  // namespace trinix::cuda
