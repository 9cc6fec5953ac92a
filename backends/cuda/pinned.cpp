#include <algorithm>
#include <cuda_runtime_api.h>

#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/pinned.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/pinned_buffer.h>

namespace trinix::cuda {

namespace {

class CudaPinnedMemory final : public PinnedMemory {
 public:
  void* allocate(std::size_t bytes, int index) override {
    const DeviceGuard guard(index);
    void* data = nullptr;
    const cudaError_t status = cudaMallocHost(&data, std::max<std::size_t>(bytes, 1));
    if (status != cudaSuccess) {
      cudaGetLastError();
      trinix::detail::fail<OutOfMemory>("pinned", "{} bytes of page-locked host memory cannot be had: {}", bytes,
                                        cudaGetErrorString(status));
    }
    return data;
  }
  void release(void* data, int index) noexcept override {
    const DeviceGuard guard(index);
    cudaFreeHost(data);
  }

  void* create_event(int index) override {
    const DeviceGuard guard(index);
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    return event;
  }
  void destroy_event(void* event, int) noexcept override { cudaEventDestroy(static_cast<cudaEvent_t>(event)); }

  void enqueue_copy(void* to, const void* from, std::size_t bytes, const Stream& stream) override {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(stream.native)),
          "cudaMemcpyAsync");
  }
  void record(void* event, const Stream& stream) override {
    check(cudaEventRecord(static_cast<cudaEvent_t>(event), static_cast<cudaStream_t>(stream.native)),
          "cudaEventRecord");
  }
  void wait(void* event) override {
    check(cudaEventSynchronize(static_cast<cudaEvent_t>(event)), "cudaEventSynchronize");
  }
};

}  // namespace

void register_pinned() {
  // Never destroyed, as the backend.
  static auto* pinned = new CudaPinnedMemory;
  register_pinned_memory(DeviceType::cuda, pinned);
}

}  // namespace trinix::cuda
