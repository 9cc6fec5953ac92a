#pragma once

#include <algorithm>
#include <cstdint>
#include <cuda_runtime.h>

#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/probe.h>
#include <trinix/backends/cuda/properties.h>
#include <trinix/core/backend.h>

/// @file
/// The one place where kernels are launched.

namespace trinix::cuda {

/// Grid and block of a launch.
struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
  bool early = false;  ///< as device/dependent_launch.cuh says, where the card can; the kernel waits by itself
};

/// Queues kernel(args...) on the stream. @throws DeviceError naming the op when the launch itself is refused.
template <class... Params, class... Args>
void launch(const char* op, void (*kernel)(Params...), const LaunchShape& shape, const Stream& stream, Args&&... args) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  const DeviceGuard guard(stream.device.index);
  // Beyond 48 KB, what a kernel declares itself included, a block gets only what it asks for. Asking costs little.
  if (shape.shared_bytes > 32 * 1024) {
    check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)),
        op);
  }
  if (shape.early && launches_early(stream.device)) {
    cudaLaunchAttribute early{};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = static_cast<cudaStream_t>(stream.native);
    config.attrs = &early;
    config.numAttrs = 1;
    check(cudaLaunchKernelEx(&config, kernel, Params(args)...), op);
    return;
  }
  kernel<<<shape.grid, shape.block, shape.shared_bytes, static_cast<cudaStream_t>(stream.native)>>>(Params(args)...);
  check(cudaGetLastError(), op);
}

[[nodiscard]] inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace trinix::cuda
