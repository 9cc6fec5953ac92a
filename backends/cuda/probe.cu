#include <algorithm>
#include <array>
#include <atomic>

#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/probe.h>
#include <trinix/backends/cuda/properties.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cuda {

namespace {
__global__ void probe_kernel() {}
}  // namespace

std::string compiled_architectures() { return TRINIX_CUDA_ARCHITECTURES; }

void check_has_code(int index) {
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, probe_kernel) == cudaSuccess) return;
  cudaGetLastError();
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, index), "cudaGetDeviceProperties");
  trinix::detail::fail<DeviceError>("cuda",
                                    "this binary has no code for cuda:{} ({}, sm_{}{}): it was compiled for {}; "
                                    "build with CMAKE_CUDA_ARCHITECTURES={}{}",
                                    index, p.name, p.major, p.minor, compiled_architectures(), p.major, p.minor);
}

bool has_hopper_code(Device device) {
  static const bool compiled = compiled_architectures().find("90a") != std::string::npos;
  return compiled && compute_capability(device) == 90;
}

bool launches_early(Device device) {
  static std::array<std::atomic<int>, 64> known{};  // 1: no, 2: yes
  const auto index = static_cast<std::size_t>(device.index);
  if (index < known.size() && known[index] != 0) return known[index] == 2;
  const DeviceGuard guard(device.index);
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, probe_kernel), "cudaFuncGetAttributes");
  const bool can = std::min(attributes.ptxVersion, compute_capability(device)) >= 90;
  if (index < known.size()) known[index] = can ? 2 : 1;
  return can;
}

}  // namespace trinix::cuda
