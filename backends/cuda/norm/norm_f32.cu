#include <trinix/backends/cuda/norm/launch.cuh>

namespace trinix::cuda {

template void norm_forward_as<float>(NormKind, const NormForward&, const Stream&);
template void norm_backward_as<float>(NormKind, const NormBackward&, const Stream&);

}  // namespace trinix::cuda
