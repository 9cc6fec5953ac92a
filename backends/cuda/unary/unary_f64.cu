#include <trinix/backends/cuda/unary/unary.cuh>

namespace trinix::cuda {

template void unary_values<double>(const Unary::Forward&, const Stream&);
template void unary_gradients<double>(const Unary::Backward&, const Stream&);

}  // namespace trinix::cuda
