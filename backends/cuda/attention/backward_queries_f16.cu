#include <trinix/backends/cuda/attention/backward_queries.cuh>

namespace trinix::cuda {

template void run_backward_queries<float16, 64>(const AttentionBackwardTask&, const Stream&);
template void run_backward_queries<float16, 96>(const AttentionBackwardTask&, const Stream&);
template void run_backward_queries<float16, 128>(const AttentionBackwardTask&, const Stream&);

}  // namespace trinix::cuda
