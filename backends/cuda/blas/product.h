#pragma once

#include <cstdint>
#include <functional>

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

/// What cuBLASLt does with a product besides adding the bias, in the same pass over its result.
enum class Epilogue : std::uint8_t {
  none,
  gelu,           ///< aux = the sum; out = gelu(aux), in the tanh form
  gelu_gradient,  ///< out = product * gelu'(aux); where `sums` is not null, sums (n) = the sums of out's columns
  row_sums,       ///< sums (m) = the sums of a's rows: with a = dy^T, the gradient of a bias
};

/// out (m, n) = alpha a (m, k) b (k, n) + (accumulate ? out : 0) + beta addend + bias (n, optional), `batch` times.
/// `out` is not transposed. `addend`, optional and not together with accumulate, lies like out. Epilogues want a batch
/// of one, and do not accumulate but for row_sums, which overwrites the sums.
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
  double alpha = 1;
  const void* addend = nullptr;
  double beta = 0;
  Epilogue epilogue = Epilogue::none;
  void* aux = nullptr;   ///< (m, n), dense, of out's dtype
  void* sums = nullptr;  ///< of out's dtype
};

/// Queues the product. f16, bf16 and f32 accumulate in f32, f64 in f64; f32 operands are rounded to TF32 where that was
/// asked for (core/tf32.h). @throws DeviceError.
void multiply(const Product& product, const Stream& stream);

/// Whether cuBLASLt can attach an epilogue to products of this shape and dtype.
[[nodiscard]] bool takes_epilogue(const Product& product);

/// Whether one product with its epilogue is faster than `separate`, which does the same in several passes: measured
/// once per kind of product and remembered like the choice among cuBLASLt's kernels. Unless it accumulates, both may
/// run, several times over, and leave their results. False where nothing can be measured: while capturing, for small
/// products, in deterministic mode. The environment's TRINIX_MATMUL_EPILOGUES=always or never decides it otherwise.
[[nodiscard]] bool epilogue_pays(const Product& product, const std::function<void()>& separate, const Stream& stream);

}  // namespace trinix::cuda
