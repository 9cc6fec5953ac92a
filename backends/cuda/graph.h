#pragma once

#include <cuda_runtime_api.h>

#include <trinix/backends/cuda/allocator.h>
#include <trinix/core/backend.h>

/// @file
/// A captured CUDA graph, ready to run.

namespace trinix::cuda {

/// Owns the graph and, until it goes, the allocator's pool that the recorded work uses.
class CapturedGraph final : public DeviceGraph {
 public:
  /// `status` and `recorded` are what cudaStreamEndCapture gave; `recorded` is taken over. @throws CaptureError when
  /// the capture failed, DeviceError when the graph cannot be made ready.
  CapturedGraph(cudaError_t status, cudaGraph_t recorded, int device, cudaStream_t stream, CachingAllocator& allocator,
                int pool);
  ~CapturedGraph() override;
  void replay(const Stream& stream) override;

 private:
  void release() noexcept;

  int device_;
  cudaStream_t stream_;
  CachingAllocator& allocator_;
  int pool_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace trinix::cuda
