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

namespace {
/// On a machine with one card that card is always current, and the question, asked at every launch, can be spared.
bool is_only_device() {
  static const bool only = [] {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count == 1;
  }();
  return only;
}
}  // namespace

DeviceGuard::DeviceGuard(int index) {
  if (is_only_device()) return;
  check(cudaGetDevice(&previous_), "cudaGetDevice");
  if (previous_ == index) return;
  check(cudaSetDevice(index), "cudaSetDevice");
  changed_ = true;
}

DeviceGuard::~DeviceGuard() {
  if (changed_) cudaSetDevice(previous_);
}

}  // namespace trinix::cuda
