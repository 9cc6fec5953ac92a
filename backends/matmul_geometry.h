#pragma once

#include <trinix/core/ops/matmul.h>
#include <trinix/core/ops/reduce.h>

/// @file
/// Brings a Matmul call down to as few and as large matrix products as its strides allow.

namespace trinix {

/// One operand of the products: its first element and the strides of the rows and columns of each matrix.
struct MatrixGeometry {
  std::int64_t row = 0;
  std::int64_t col = 0;
};

/// `batch` products of m x k by k x n matrices. Dim 0 of the batch is the outermost.
struct MatmulGeometry {
  std::int64_t m = 0, n = 0, k = 0;
  MatrixGeometry a, b, out;
  Shape batch;                          ///< sizes of the batch dims
  Strides a_batch, b_batch, out_batch;  ///< elements between neighbours along each

  [[nodiscard]] std::int64_t count() const {
    std::int64_t product = 1;
    for (const std::int64_t size : batch) product *= size;
    return product;
  }
};

namespace internal {

/// Appends a batch dim, or merges it with the one before when all three operands allow it.
inline void add_batch_dim(MatmulGeometry& g, std::int64_t size, std::int64_t a, std::int64_t b, std::int64_t out) {
  const int last = g.batch.size() - 1;
  if (last >= 0 && g.a_batch[last] == size * a && g.b_batch[last] == size * b && g.out_batch[last] == size * out) {
    g.batch[last] *= size;
    g.a_batch[last] = a;
    g.b_batch[last] = b;
    g.out_batch[last] = out;
    return;
  }
  g.batch.push_back(size);
  g.a_batch.push_back(a);
  g.b_batch.push_back(b);
  g.out_batch.push_back(out);
}

}  // namespace internal

/// A batch that shares b becomes rows of one product where the strides of a and out allow it; the rest stays a batch
/// of as few dims as possible.
inline MatmulGeometry matmul_geometry(const Matmul::Forward& args) {
  MatmulGeometry g{.m = args.a.size(-2), .n = args.b.size(-1), .k = args.a.size(-1)};
  g.a = {args.a.stride(-2), args.a.stride(-1)};
  g.b = {args.b.stride(-2), args.b.stride(-1)};
  g.out = {args.out.stride(-2), args.out.stride(-1)};
  int d = args.out.rank() - 3;
  for (; d >= 0; --d) {
    const std::int64_t size = args.out.shape[d];
    if (size == 1) continue;
    if (args.b.strides[d] != 0) break;
    const bool follows = args.a.strides[d] == g.m * g.a.row && args.out.strides[d] == g.m * g.out.row;
    if (g.m != 1 && !follows) break;
    if (g.m == 1) {
      g.a.row = args.a.strides[d];
      g.out.row = args.out.strides[d];
    }
    g.m *= size;
  }
  for (int i = 0; i <= d; ++i) {
    if (args.out.shape[i] != 1) {
      internal::add_batch_dim(g, args.out.shape[i], args.a.strides[i], args.b.strides[i], args.out.strides[i]);
    }
  }
  return g;
}

/// The sums that a Matmul call wants besides its product, for backends that make them in a pass of their own.
inline void run_row_sums(const Matmul::Forward& args) {
  if (!args.row_sums.defined) return;
  View sums = args.row_sums;
  sums.shape.push_back(1);
  sums.strides.push_back(1);
  run<Reduce>({.fn = ReduceFn::sum, .x = args.a, .out = sums, .accumulate = args.accumulate_row_sums}, sums.device);
}

/// Element offsets of product `index` in a, b and out.
struct MatmulOffsets {
  std::int64_t a = 0, b = 0, out = 0;
};
inline MatmulOffsets matmul_offsets(const MatmulGeometry& g, std::int64_t index) {
  MatmulOffsets offsets;
  for (int d = g.batch.size() - 1; d >= 0; --d) {
    const std::int64_t i = index % g.batch[d];
    index /= g.batch[d];
    offsets.a += i * g.a_batch[d];
    offsets.b += i * g.b_batch[d];
    offsets.out += i * g.out_batch[d];
  }
  return offsets;
}

}  // namespace trinix
