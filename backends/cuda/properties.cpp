#include <array>
#include <atomic>
#include <cuda_runtime_api.h>

#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/properties.h>

namespace trinix::cuda {

namespace {

/// Asked once per device: the runtime's answer takes longer than a launch.
template <cudaDeviceAttr kAttribute>
int attribute(int index) {
  static std::array<std::atomic<int>, 64> known{};
  const bool fits = index < static_cast<int>(known.size());
  int value = fits ? known[static_cast<std::size_t>(index)].load() : 0;
  if (value > 0) return value;
  check(cudaDeviceGetAttribute(&value, kAttribute, index), "cudaDeviceGetAttribute");
  if (fits) known[static_cast<std::size_t>(index)] = value;
  return value;
}

}  // namespace

int multiprocessors(const Stream& stream) { return attribute<cudaDevAttrMultiProcessorCount>(stream.device.index); }

int shared_limit(Device device) { return attribute<cudaDevAttrMaxSharedMemoryPerBlockOptin>(device.index); }

int compute_capability(Device device) {
  return 10 * attribute<cudaDevAttrComputeCapabilityMajor>(device.index) +
         attribute<cudaDevAttrComputeCapabilityMinor>(device.index);
}

}  // namespace trinix::cuda
