#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of the deliberately undefined registers in its own intrinsics (GCC bug 105593) once Eigen is inlined.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <Eigen/Core>
#include <algorithm>

#include <trinix/backends/cpu/gemm/address.h>
#include <trinix/backends/cpu/gemm/gemm.h>
#include <trinix/backends/cpu/parallel.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cpu {

namespace {

using internal::advance;

void check(const GemmArgs& args) {
  const DType t = args.c.dtype;
  if ((t != DType::f32 && t != DType::f64) || args.a.dtype != t || args.b.dtype != t) {
    detail::fail<DtypeError>("gemm_eigen", "a product of {} by {} into {}: all must be f32 or all f64; call gemm()",
                             args.a.dtype, args.b.dtype, t);
  }
  if (args.packed_b.defined()) {
    detail::fail<ConfigError>("gemm_eigen", "a packed operand of ({}, {}) was given: pass B itself or call gemm()",
                              args.packed_b.rows, args.packed_b.cols);
  }
}

template <class T>
using Dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Strided = Eigen::Map<T, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
template <class T>
using Rows = Eigen::Map<T, Eigen::Unaligned, Eigen::OuterStride<>>;

/// The operand with adjacent columns: where it lies, or as a copy in `copy`. One form, because Eigen's product is
/// compiled anew for each combination of forms, at 10 KB apiece.
template <class T>
Rows<const Dense<T>> as_rows(const GemmMatrix& x, std::int64_t rows, std::int64_t cols, Dense<T>& copy) {
  const T* data = static_cast<const T*>(x.data);
  if (x.col == 1 && x.row >= cols) return {data, rows, cols, Eigen::OuterStride<>(x.row)};
  copy = Strided<const Dense<T>>(data, rows, cols, {x.row, x.col});
  return {copy.data(), rows, cols, Eigen::OuterStride<>(cols)};
}

template <class T>
void product(const GemmArgs& args) {
  T* data = static_cast<T*>(args.c.data);
  const bool in_place = args.c.col == 1 && args.c.row >= args.n;
  Strided<Dense<T>> result(data, args.m, args.n, {args.c.row, args.c.col});
  Dense<T> copy_of_c;
  if (!in_place) copy_of_c = result;
  Rows<Dense<T>> c(in_place ? data : copy_of_c.data(), args.m, args.n,
                   Eigen::OuterStride<>(in_place ? args.c.row : args.n));
  if (!args.accumulate) c.setZero();
  if (args.k > 0) {
    Dense<T> copy_of_a, copy_of_b;
    const auto a = as_rows<T>(args.a, args.m, args.k, copy_of_a);
    const auto b = as_rows<T>(args.b, args.k, args.n, copy_of_b);
    c.noalias() += static_cast<T>(args.alpha) * a * b;
  }
  const T* bias = static_cast<const T*>(args.bias);
  for (std::int64_t j = 0; bias != nullptr && j < args.n; ++j) c.col(j).array() += bias[j];
  if (!in_place) result = c;
}

void product_of(const GemmArgs& args) {
  if (args.m <= 0 || args.n <= 0) return;
  if (args.c.dtype == DType::f64) return product<double>(args);
  product<float>(args);
}

/// Part `index` of `parts` of a product, cut along its longer side.
void product_part(const GemmArgs& args, std::int64_t index, std::int64_t parts) {
  GemmArgs part = args;
  const DType t = args.c.dtype;
  const std::int64_t along = std::max(args.m, args.n);
  // Multiples of 16 keep the threads' parts of C on cache lines of their own.
  const std::int64_t units = (along + 15) / 16;
  const std::int64_t begin = units * index / parts * 16;
  const std::int64_t end = std::min(along, units * (index + 1) / parts * 16);
  if (args.m >= args.n) {
    part.m = end - begin;
    part.a.data = advance(args.a.data, begin * args.a.row, t);
    part.c.data = advance(args.c.data, begin * args.c.row, t);
  } else {
    part.n = end - begin;
    part.b.data = advance(args.b.data, begin * args.b.col, t);
    part.c.data = advance(args.c.data, begin * args.c.col, t);
    if (args.bias != nullptr) part.bias = advance(args.bias, begin, t);
  }
  product_of(part);
}

std::int64_t flops(const GemmArgs& args) { return 2 * args.m * args.n * std::max<std::int64_t>(args.k, 1); }

}  // namespace

void gemm_eigen(const GemmArgs& args) {
  check(args);
  team(threads_for(flops(args), 1 << 20), [&](int t, int threads) { product_part(args, t, threads); });
}

void gemm_eigen_batched(const GemmArgs& first, std::int64_t count, const GemmBatchStrides& strides) {
  check(first);
  const auto at = [&](std::int64_t i) {
    GemmArgs args = first;
    args.a.data = advance(args.a.data, i * strides.a, args.a.dtype);
    args.b.data = advance(args.b.data, i * strides.b, args.b.dtype);
    args.c.data = advance(args.c.data, i * strides.c, args.c.dtype);
    return args;
  };
  if (count < num_threads()) {
    for (std::int64_t i = 0; i < count; ++i) gemm_eigen(at(i));
    return;
  }
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 20) / std::max<std::int64_t>(1, flops(first)));
  parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) product_of(at(i));
  });
}

}  // namespace trinix::cpu
