#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/graph.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cuda {

CapturedGraph::CapturedGraph(cudaError_t status, cudaGraph_t recorded, int device, cudaStream_t stream,
                             CachingAllocator& allocator, int pool)
    : device_(device), stream_(stream), allocator_(allocator), pool_(pool) {
  if (status == cudaSuccess) status = cudaGraphInstantiate(&graph_, recorded, 0);
  if (status == cudaSuccess) status = cudaGraphUpload(graph_, stream);
  if (recorded != nullptr) cudaGraphDestroy(recorded);
  if (status == cudaSuccess) return;
  cudaGetLastError();
  release();
  trinix::detail::fail<CaptureError>("capture",
                                     "the step could not be captured: {} ({}); something in it waited for the device "
                                     "or used another stream",
                                     cudaGetErrorString(status), cudaGetErrorName(status));
}

CapturedGraph::~CapturedGraph() { release(); }

void CapturedGraph::release() noexcept {
  int previous = 0;
  cudaGetDevice(&previous);
  cudaSetDevice(device_);
  if (graph_ != nullptr) {
    cudaStreamSynchronize(stream_);  // the last replay may still be running
    cudaGraphExecDestroy(graph_);
  }
  allocator_.drop_private_pool(pool_);
  cudaSetDevice(previous);
}

void CapturedGraph::replay(const Stream& stream) {
  const DeviceGuard guard(device_);
  check(cudaGraphLaunch(graph_, static_cast<cudaStream_t>(stream.native)), "cudaGraphLaunch");
}

}  // namespace trinix::cuda
