#include <array>
#include <atomic>
#include <cuda_runtime_api.h>

#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/properties.h>

namespace trinix::cuda {

int multiprocessors(const Stream& stream) {
  // Asked once per device: the runtime's answer takes longer than a launch.
  static std::array<std::atomic<int>, 64> known{};
  const int index = stream.device.index;
  const bool fits = index < static_cast<int>(known.size());
  int count = fits ? known[static_cast<std::size_t>(index)].load() : 0;
  if (count > 0) return count;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, index), "cudaDeviceGetAttribute");
  if (fits) known[static_cast<std::size_t>(index)] = count;
  return count;
}

}  // namespace trinix::cuda
