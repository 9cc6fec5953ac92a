#include <array>
#include <atomic>
#include <cuda_runtime_api.h>

#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/properties.h>

namespace trinix::cuda {

namespace {

/// An attribute that is never 0, per device.
using Known = std::array<std::atomic<int>, 64>;

int attribute(Known& known, cudaDeviceAttr which, int index) {
  const bool fits = index < static_cast<int>(known.size());
  int value = fits ? known[static_cast<std::size_t>(index)].load() : 0;
  if (value > 0) return value;
  check(cudaDeviceGetAttribute(&value, which, index), "cudaDeviceGetAttribute");
  if (fits) known[static_cast<std::size_t>(index)] = value;
  return value;
}

}  // namespace

int multiprocessors(const Stream& stream) {
  static Known known{};
  return attribute(known, cudaDevAttrMultiProcessorCount, stream.device.index);
}

int shared_limit(Device device) {
  static Known known{};
  return attribute(known, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.index);
}

}  // namespace trinix::cuda
