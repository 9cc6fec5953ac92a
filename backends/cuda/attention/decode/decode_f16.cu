#include <trinix/backends/cuda/attention/decode/decode.cuh>

namespace trinix::cuda {

template void run_decode<float16, 64>(const AttentionForwardTask&, const Stream&);
template void run_decode<float16, 128>(const AttentionForwardTask&, const Stream&);
template void run_decode<float16, 256>(const AttentionForwardTask&, const Stream&);

}  // namespace trinix::cuda
