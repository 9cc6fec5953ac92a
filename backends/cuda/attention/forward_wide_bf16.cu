#include <trinix/backends/cuda/attention/forward.cuh>

namespace trinix::cuda {

template void run_forward<bfloat16, 192>(const AttentionForwardTask&, const Stream&);
template void run_forward<bfloat16, 256>(const AttentionForwardTask&, const Stream&);

}  // namespace trinix::cuda
