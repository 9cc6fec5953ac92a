#include <trinix/backends/cuda/attention/flash/backward.cuh>

namespace trinix::cuda {

template void run_flash_backward<float16, 64>(const AttentionBackwardTask&, const Stream&);
template void run_flash_backward<float16, 96>(const AttentionBackwardTask&, const Stream&);
template void run_flash_backward<float16, 128>(const AttentionBackwardTask&, const Stream&);

}  // namespace trinix::cuda
