#pragma once

#include <cstdint>
#include <cuda.h>

/// @file
/// Descriptions of tensors for the copy engine (device/tensor_copy.cuh).

namespace trinix::cuda {

/// A (batch, length, heads, depth) operand of 16-bit elements for the copy engine.
struct BoxedTensor {
  void* data = nullptr;  ///< 16-byte aligned
  std::int64_t batches = 1, length = 1, heads = 1, depth = 1;
  std::int64_t batch_stride = 0, row_stride = 0, head_stride = 0;  ///< elements, multiples of 8
};

/// A map of boxes of 64 columns by `rows` rows of one head, written to shared memory as a panel of wgmma.cuh; dims are
/// (column, row, head, batch). What lies outside of the tensor reads as zeros.
/// @throws DeviceError when the driver refuses, naming `op`
[[nodiscard]] CUtensorMap make_tensor_map(const char* op, const BoxedTensor& tensor, int rows);

}  // namespace trinix::cuda
