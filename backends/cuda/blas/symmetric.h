#pragma once

#include <trinix/backends/cuda/blas/product.h>

/// @file
/// Products that are known to be symmetric: half of the work, and the other half mirrored.

namespace trinix::cuda {

/// out (m, m) = alpha X X^T + beta addend, `batch` times, X being (m, k): `x`, or with x.transposed its transpose, as
/// in Product. bf16 and f16; accumulates in f32. `addend`, optional and symmetric, lies like out; rows follow one
/// another without gaps in both.
struct SymmetricProduct {
  std::int64_t m = 0;
  std::int64_t k = 0;
  std::int64_t batch = 1;
  DType dtype = DType::bf16;
  Matrix x;
  void* out = nullptr;
  double alpha = 1;
  const void* addend = nullptr;
  double beta = 0;
};

/// Whether multiply_symmetric() takes it: 16-bit types, rows of a multiple of 8 elements at addresses of a multiple of
/// 16 bytes.
[[nodiscard]] bool takes_symmetric(const SymmetricProduct& product);

void multiply_symmetric(const SymmetricProduct& product, const Stream& stream);

}  // namespace trinix::cuda
