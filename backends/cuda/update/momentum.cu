#include <trinix/backends/cuda/update/update.cuh>

namespace trinix::cuda {

template void launch_update<UpdateKind::momentum>(const UpdateTable&, const UpdateArguments&, const Stream&);

}  // namespace trinix::cuda
