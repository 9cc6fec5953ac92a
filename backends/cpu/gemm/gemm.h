#pragma once

#include <cstddef>
#include <cstdint>

#include <trinix/core/dtype.h>

/// @file
/// Matrix products of the CPU backend on raw memory:
///
///     C = alpha * A B + bias          (+ C, when accumulating)
///
/// A is (m, k), B (k, n), C (m, n), each with any element strides, 0 included for A and B; a transposed operand is one
/// whose strides are swapped. f64 operands go with an f64 result. f32, bf16 and f16 may be mixed freely: products are
/// summed in f32 whatever the storage, and C is rounded once.
///
/// Every function here may be called from any thread, also inside a team (cpu::team), where it runs on the calling
/// thread. For given arguments the result does not depend on the number of threads, bit for bit.

namespace trinix::cpu {

/// A strided operand; strides in elements.
struct GemmMatrix {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t row = 0;  ///< elements between rows
  std::int64_t col = 1;  ///< elements between columns
};

/// The strided result. Its elements must not overlap each other or the operands.
struct GemmResult {
  void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t row = 0;
  std::int64_t col = 1;
};

/// An operand B that has been brought into the order of the register tiles once, to be used by many products.
/// Holds no memory of its own.
struct PackedMatrix {
  const void* data = nullptr;
  std::int64_t rows = 0;          ///< k of the packed operand
  std::int64_t cols = 0;          ///< n of the packed operand
  std::int64_t panel_width = 0;   ///< columns of a panel
  std::int64_t panel_stride = 0;  ///< elements between panels
  DType dtype = DType::f32;       ///< f32 or f64: as what the values are held

  [[nodiscard]] bool defined() const { return data != nullptr; }
  /// Rows [row, row + count_rows), columns [col, col + count_cols). `col` must be a multiple of panel_width.
  [[nodiscard]] PackedMatrix block(std::int64_t row, std::int64_t count_rows, std::int64_t col,
                                   std::int64_t count_cols) const {
    PackedMatrix part = *this;
    const std::int64_t elements = col / panel_width * panel_stride + row * panel_width;
    part.data = static_cast<const char*>(data) + elements * static_cast<std::int64_t>(size_of(dtype));
    part.rows = count_rows;
    part.cols = count_cols;
    return part;
  }
};

/// The arguments of one product.
struct GemmArgs {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  GemmMatrix a = {};
  GemmMatrix b = {};           ///< not read when packed_b is defined
  PackedMatrix packed_b = {};  ///< optional: B, packed by pack_b
  GemmResult c = {};
  double alpha = 1;
  bool accumulate = false;     ///< C += instead of C =; otherwise C is not read
  const void* bias = nullptr;  ///< optional: n adjacent values in C's dtype, added to every row
};

/// A product on up to num_threads() threads; on the calling thread alone when it is small or inside a team.
/// @throws DtypeError for integers or for f64 mixed with others, ShapeError when packed_b has other sizes than B,
/// OutOfMemory for the workspace.
void gemm(const GemmArgs& args);

/// A product on the calling thread. Throws like gemm(). With a workspace of gemm_workspace_bytes(args), aligned to 64
/// bytes, it does not allocate (and so does not throw OutOfMemory); without one it uses the thread's own, which grows
/// to what is needed and is kept.
void gemm_serial(const GemmArgs& args, void* workspace = nullptr);

/// Bytes of workspace that gemm_serial needs for products of these sizes and dtypes (the pointers are not read).
[[nodiscard]] std::size_t gemm_workspace_bytes(const GemmArgs& args);

/// Elements between one product of a batch and the next; 0 repeats an operand. bias and packed_b are shared by all.
struct GemmBatchStrides {
  std::int64_t a = 0;
  std::int64_t b = 0;
  std::int64_t c = 0;
};

/// `count` products, in parallel over the batch when that occupies all threads and the products are small, otherwise
/// one after another. Throws like gemm(). The results must not overlap.
void gemm_batched(const GemmArgs& first, std::int64_t count, const GemmBatchStrides& strides);

/// The same for batches whose products lie at irregular places: f(context, i) gives the arguments of product i, which
/// differ from `like` in the pointers only. f must not throw.
using GemmOfBatch = GemmArgs (*)(const void* context, std::int64_t index);
void gemm_batched(const GemmArgs& like, std::int64_t count, GemmOfBatch f, const void* context);

/// Bytes of a buffer for pack_b, and the call that fills it (aligned to 64 bytes) on the calling thread. 16-bit values
/// are widened to f32. @throws DtypeError for integers.
[[nodiscard]] std::size_t packed_b_bytes(std::int64_t k, std::int64_t n, DType dtype);
[[nodiscard]] PackedMatrix pack_b(std::int64_t k, std::int64_t n, const GemmMatrix& b, void* buffer);

/// The second implementation, on Eigen, with threads over rows or columns. f32 and f64 only, no mixing; packed_b is
/// not taken; operands whose columns are not adjacent are copied. Used for f64
/// and to check gemm(). @throws DtypeError, ConfigError.
void gemm_eigen(const GemmArgs& args);
void gemm_eigen_batched(const GemmArgs& first, std::int64_t count, const GemmBatchStrides& strides);

}  // namespace trinix::cpu
