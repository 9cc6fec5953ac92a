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
using DenseByColumns = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
template <class M>
using Strided = Eigen::Map<M, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
template <class M>
using Mapped = Eigen::Map<const M, Eigen::Unaligned, Eigen::OuterStride<>>;

/// Calls f with the operand in the form that Eigen multiplies fast: one stride is 1, or a copy.
template <class T, class F>
void with_operand(const GemmMatrix& x, std::int64_t rows, std::int64_t cols, F&& f) {
  const T* data = static_cast<const T*>(x.data);
  if (x.col == 1 && x.row >= cols) {
    f(Mapped<Dense<T>>(data, rows, cols, Eigen::OuterStride<>(x.row)));
  } else if (x.row == 1 && x.col >= rows) {
    f(Mapped<DenseByColumns<T>>(data, rows, cols, Eigen::OuterStride<>(x.col)));
  } else {
    const Dense<T> copy = Strided<const Dense<T>>(data, rows, cols, {x.row, x.col});
    f(Mapped<Dense<T>>(copy.data(), rows, cols, Eigen::OuterStride<>(cols)));
  }
}

template <class T>
void product(const GemmArgs& args) {
  using Bias = Eigen::Map<const Eigen::Matrix<T, 1, Eigen::Dynamic>>;
  const T alpha = static_cast<T>(args.alpha);
  const auto into = [&](auto&& c) {
    if (!args.accumulate) c.setZero();
    if (args.k > 0) {
      with_operand<T>(args.a, args.m, args.k, [&](const auto& a) {
        with_operand<T>(args.b, args.k, args.n, [&](const auto& b) { c.noalias() += alpha * a * b; });
      });
    }
    if (args.bias != nullptr) c.rowwise() += Bias(static_cast<const T*>(args.bias), args.n);
  };
  T* data = static_cast<T*>(args.c.data);
  if (args.c.col == 1) {
    into(Eigen::Map<Dense<T>, Eigen::Unaligned, Eigen::OuterStride<>>(data, args.m, args.n,
                                                                      Eigen::OuterStride<>(args.c.row)));
  } else if (args.c.row == 1) {
    into(Eigen::Map<DenseByColumns<T>, Eigen::Unaligned, Eigen::OuterStride<>>(data, args.m, args.n,
                                                                               Eigen::OuterStride<>(args.c.col)));
  } else {
    Strided<Dense<T>> c(data, args.m, args.n, {args.c.row, args.c.col});
    Dense<T> copy = c;
    into(copy);
    c = copy;
  }
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
