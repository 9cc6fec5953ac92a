#include <trinix/backends/cuda/attention/backward_finish.cuh>
#include <trinix/backends/cuda/attention/backward_keys.cuh>

namespace trinix::cuda {

template void run_backward_keys<bfloat16, 64>(const AttentionBackwardTask&, bool, const Stream&);
template void run_backward_finish<bfloat16, 64>(const AttentionBackwardTask&, bool, const Stream&);
template void run_backward_keys<bfloat16, 96>(const AttentionBackwardTask&, bool, const Stream&);
template void run_backward_finish<bfloat16, 96>(const AttentionBackwardTask&, bool, const Stream&);

}  // namespace trinix::cuda
