#include <trinix/backends/cuda/attention/flash/forward.cuh>

namespace trinix::cuda {

template void run_flash_forward<bfloat16, 192, 128>(const AttentionForwardTask&, const Stream&);
template void run_flash_forward<bfloat16, 256, 256>(const AttentionForwardTask&, const Stream&);

}  // namespace trinix::cuda
