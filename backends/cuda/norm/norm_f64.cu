#include <trinix/backends/cuda/norm/launch.cuh>

namespace trinix::cuda {

template void norm_forward_as<double>(NormKind, const NormForward&, const Stream&);
template void norm_backward_as<double>(NormKind, const NormBackward&, const Stream&);

}  // namespace trinix::cuda
