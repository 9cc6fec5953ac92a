#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/tensor_map.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cuda {

namespace {

/// From the driver that the runtime has loaded, so that nothing of it is linked.
PFN_cuTensorMapEncodeTiled_v12000 encoder(const char* op) {
  static const auto found = [op] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result), op);
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(result == cudaDriverEntryPointSuccess ? function
                                                                                                     : nullptr);
  }();
  if (found == nullptr) {
    detail::fail<DeviceError>(op, "this driver knows no tensor maps: install one for CUDA 12.0 or newer");
  }
  return found;
}

}  // namespace

CUtensorMap make_tensor_map(const char* op, const BoxedTensor& t, int rows) {
  // The stride of a dim of one element may be anything, but not out of range.
  const auto bytes = [](std::int64_t count, std::int64_t stride) {
    return static_cast<cuuint64_t>(count == 1 ? 16 : 2 * stride);
  };
  const cuuint64_t dims[] = {static_cast<cuuint64_t>(t.depth), static_cast<cuuint64_t>(t.length),
                             static_cast<cuuint64_t>(t.heads), static_cast<cuuint64_t>(t.batches)};
  const cuuint64_t strides[] = {bytes(t.length, t.row_stride), bytes(t.heads, t.head_stride),
                                bytes(t.batches, t.batch_stride)};
  const cuuint32_t box[] = {64, static_cast<cuuint32_t>(rows), 1, 1};
  const cuuint32_t steps[] = {1, 1, 1, 1};
  CUtensorMap map{};
  const CUresult result = encoder(op)(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 4, t.data, dims, strides, box, steps,
                                      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    detail::fail<DeviceError>(
        op, "the driver refused a tensor map (error {}) of ({}, {}, {}, {}) elements with strides of {}, {}, {} bytes",
        static_cast<int>(result), t.batches, t.length, t.heads, t.depth, strides[2], strides[0], strides[1]);
  }
  return map;
}

}  // namespace trinix::cuda
