#include <trinix/backends/cuda/attention/backward_finish.cuh>
#include <trinix/backends/cuda/attention/backward_keys.cuh>

namespace trinix::cuda {

template void run_backward_keys<float16, 192>(const AttentionBackwardTask&, bool, const Stream&);
template void run_backward_finish<float16, 192>(const AttentionBackwardTask&, bool, const Stream&);
template void run_backward_keys<float16, 256>(const AttentionBackwardTask&, bool, const Stream&);
template void run_backward_finish<float16, 256>(const AttentionBackwardTask&, bool, const Stream&);

}  // namespace trinix::cuda
