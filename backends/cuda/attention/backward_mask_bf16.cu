#include <trinix/backends/cuda/attention/backward_mask.cuh>

namespace trinix::cuda {

template void run_backward_mask<bfloat16>(AttentionMaskTask, bool, const Stream&);

}  // namespace trinix::cuda
