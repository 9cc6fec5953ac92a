#pragma once

#include <cstdint>

#include <trinix/core/backend.h>
#include <trinix/core/dtype.h>

/// @file
/// One matrix product through cuBLASLt, with a plan per shape that is made once.

namespace trinix::cuda {

/// A matrix in memory: element (r, c) of batch b at data + b * batch_stride + r * ld + c, or, when `transposed`, at
/// data + b * batch_stride + c * ld + r.
struct Matrix {
  void* data = nullptr;
  std::int64_t ld = 0;
  std::int64_t batch_stride = 0;
  bool transposed = false;
};

/// out (m, n) = a (m, k) b (k, n) + (accumulate ? out : 0) + bias (n, optional), `batch` times. `out` is not
/// transposed.
struct Product {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t batch = 1;
  DType dtype = DType::f32;
  Matrix a;
  Matrix b;
  Matrix out;
  const void* bias = nullptr;
  bool accumulate = false;
};

/// Queues the product. f16, bf16 and f32 accumulate in f32, f64 in f64. @throws DeviceError.
void multiply(const Product& product, const Stream& stream);

}  // namespace trinix::cuda
