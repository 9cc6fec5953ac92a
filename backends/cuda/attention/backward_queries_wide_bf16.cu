#include <trinix/backends/cuda/attention/backward_queries.cuh>

namespace trinix::cuda {

template void run_backward_queries<bfloat16, 192>(const AttentionBackwardTask&, bool, const Stream&);
template void run_backward_queries<bfloat16, 256>(const AttentionBackwardTask&, bool, const Stream&);

}  // namespace trinix::cuda
