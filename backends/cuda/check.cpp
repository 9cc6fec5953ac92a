#include <trinix/backends/cuda/check.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a sticky error stays, any other must not be reported twice
  trinix::detail::fail<DeviceError>("cuda", "{} failed: {} ({})", what, cudaGetErrorString(status),
                                    cudaGetErrorName(status));
}

DeviceGuard::DeviceGuard(int index) {
  check(cudaGetDevice(&previous_), "cudaGetDevice");
  if (previous_ == index) return;
  check(cudaSetDevice(index), "cudaSetDevice");
  changed_ = true;
}

DeviceGuard::~DeviceGuard() {
  if (changed_) cudaSetDevice(previous_);
}

}  // namespace trinix::cuda
