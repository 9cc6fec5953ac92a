#pragma once

#include <cuda_runtime_api.h>

/// @file
/// Errors of the CUDA runtime as exceptions.

namespace trinix::cuda {

/// @throws DeviceError with the runtime's own text when `status` is not success; `what` names the call.
void check(cudaError_t status, const char* what);

/// Makes a device current on this thread while it lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(int index);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

}  // namespace trinix::cuda
