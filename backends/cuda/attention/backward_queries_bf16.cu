#include <trinix/backends/cuda/attention/backward_queries.cuh>

namespace trinix::cuda {

template void run_backward_queries<bfloat16, 64>(const AttentionBackwardTask&, bool, const Stream&);
template void run_backward_queries<bfloat16, 96>(const AttentionBackwardTask&, bool, const Stream&);
template void run_backward_queries<bfloat16, 128>(const AttentionBackwardTask&, bool, const Stream&);

}  // namespace trinix::cuda
