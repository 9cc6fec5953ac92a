#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of the deliberately undefined registers in its own intrinsics (GCC bug 105593) once Eigen is inlined.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <Eigen/Core>

#include <trinix/backends/cpu/dispatch.h>
#include <trinix/backends/cpu/matmul_geometry.h>
#include <trinix/backends/cpu/parallel.h>
#include <trinix/core/ops/matmul.h>

namespace trinix::cpu {

namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using AnyStride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;

template <class T>
Eigen::Map<Matrix<T>, 0, AnyStride> map(T* data, std::int64_t rows, std::int64_t cols, const MatrixGeometry& g) {
  return {data, rows, cols, AnyStride(g.row, g.col)};
}

/// Rows [begin, end) of one product.
template <class T>
void multiply(const Matmul::Forward& args, const MatmulGeometry& g, std::int64_t index, std::int64_t begin,
              std::int64_t end) {
  using C = compute_t<T>;
  const MatmulOffsets at = matmul_offsets(g, index);
  const std::int64_t rows = end - begin;
  const auto a = map(args.a.as<T>() + at.a + begin * g.a.row, rows, g.k, g.a);
  const auto b = map(args.b.as<T>() + at.b, g.k, g.n, g.b);
  Matrix<C> c(rows, g.n);
  if constexpr (std::is_same_v<T, C>) {
    c.noalias() = a * b;
  } else {
    const auto widen = [](T v) { return static_cast<C>(v); };
    c.noalias() = Matrix<C>(a.unaryExpr(widen)) * Matrix<C>(b.unaryExpr(widen));
  }
  T* out = args.out.as<T>() + at.out + begin * g.out.row;
  const T* bias = args.bias.defined ? args.bias.as<T>() : nullptr;
  const std::int64_t bias_step = args.bias.defined ? args.bias.stride(0) : 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < g.n; ++j) {
      T& to = out[i * g.out.row + j * g.out.col];
      C value = c(i, j);
      if (bias != nullptr) value += static_cast<C>(bias[j * bias_step]);
      if (args.accumulate) value += static_cast<C>(to);
      to = T(value);
    }
  }
}

void matmul_forward(const Matmul::Forward& args, const Stream&) {
  const MatmulGeometry g = matmul_geometry(args);
  dispatch_floating(args.out.dtype, "matmul", [&]<class T>() {
    const std::int64_t grain = std::max<std::int64_t>(kGrain * 8 / std::max<std::int64_t>(g.n * g.k, 1), 1);
    if (g.count() == 1) {
      parallel_for(g.m, grain, [&](std::int64_t begin, std::int64_t end) { multiply<T>(args, g, 0, begin, end); });
    } else {
      parallel_for(g.count(), std::max<std::int64_t>(grain / g.m, 1), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) multiply<T>(args, g, i, 0, g.m);
      });
    }
  });
}

}  // namespace

void register_matmul() {
  register_kernel<Matmul>({"cpu_eigen", Kernel::reference, DeviceType::cpu, 0, nullptr, matmul_forward, nullptr});
}

}  // namespace trinix::cpu
