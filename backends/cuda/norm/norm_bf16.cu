#include <trinix/backends/cuda/norm/launch.cuh>

namespace trinix::cuda {

template void norm_forward_as<bfloat16>(NormKind, const NormForward&, const Stream&);
template void norm_backward_as<bfloat16>(NormKind, const NormBackward&, const Stream&);

}  // namespace trinix::cuda
