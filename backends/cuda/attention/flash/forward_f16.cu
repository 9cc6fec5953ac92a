#include <trinix/backends/cuda/attention/flash/forward.cuh>

namespace trinix::cuda {

template void run_flash_forward<float16, 64, 64>(const AttentionForwardTask&, const Stream&);
template void run_flash_forward<float16, 96, 96>(const AttentionForwardTask&, const Stream&);
template void run_flash_forward<float16, 128, 128>(const AttentionForwardTask&, const Stream&);

}  // namespace trinix::cuda
