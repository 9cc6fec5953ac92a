#include <trinix/backends/cuda/update/update.cuh>

namespace trinix::cuda {

template void launch_update<UpdateKind::lion>(const UpdateTable&, const UpdateArguments&, const Stream&);

}  // namespace trinix::cuda
