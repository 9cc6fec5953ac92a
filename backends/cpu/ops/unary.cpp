// Unary. The functions stand in unary_functions.h; here are the loops over them. Each function is compiled once per
// compute type and direction, over contiguous memory; other layouts and 16-bit types are staged in L1.
#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/cpu/staging.h>
#include <trinix/backends/cpu/unary_rows.h>
#include <trinix/backends/cpu/vector_functions.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/unary_visit.h>
#include <trinix/core/ops/elementwise.h>

namespace trinix::cpu {

namespace {

using fn::Constants;

/// Arguments that the vectorised sine and cosine reduce correctly.
bool in_trigonometric_range(float x) { return !(std::fabs(x) > vm::kTrigonometricRange); }

template <class F, class C>
void value_row(const C* x, C* y, std::int64_t n, Constants<C> k) {
  if constexpr (std::is_same_v<C, float> && requires { F::kOfAngle; }) {
    int covered = 1;
#pragma omp simd reduction(& : covered)
    for (std::int64_t i = 0; i < n; ++i) covered &= in_trigonometric_range(x[i]);
    if (covered == 0) {
      for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(F::value(static_cast<double>(x[i]), {k.a, k.b}));
      return;
    }
  }
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = F::value(x[i], k);
}

/// `s` is what saved_by() names; functions that need nothing never read it.
template <class F, class C>
void gradient_row(const C* dy, const C* s, C* dx, std::int64_t n, Constants<C> k) {
  if constexpr (std::is_same_v<C, float> && requires { F::kOfAngle; }) {
    int covered = 1;
#pragma omp simd reduction(& : covered)
    for (std::int64_t i = 0; i < n; ++i) covered &= in_trigonometric_range(s[i]);
    if (covered == 0) {
      for (std::int64_t i = 0; i < n; ++i) {
        dx[i] = static_cast<float>(F::gradient(static_cast<double>(dy[i]), static_cast<double>(s[i]), {k.a, k.b}));
      }
      return;
    }
  }
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) dx[i] = F::gradient(dy[i], s[i], k);
}

template <class F, class C>
UnaryRows<C> rows_for() {
  if constexpr (std::is_floating_point_v<C>) return {F::kCost, value_row<F, C>, gradient_row<F, C>};
  return {F::kCost, value_row<F, C>, nullptr};
}

/// The rows for this function and type. @throws DtypeError when there are none.
template <class T>
UnaryRows<compute_t<T>> rows_or_fail(UnaryFn function) {
  using C = compute_t<T>;
  UnaryRows<C> rows;
  const bool found = fn::visit<VectorMath, C>(function, [&]<class F>() { rows = rows_for<F, C>(); });
  if (!found) {
    trinix::detail::fail<DtypeError>("unary", "this function does not take {}: convert with to()", dtype_of<T>);
  }
  return rows;
}

void logical_not(const Unary::Forward& args) {
  const Walk<2> w = make_walk<2>({&args.y, &args.x});
  for_each_row(w, 1, [&](const auto& offsets, std::int64_t n) {
    bool* y = args.y.as<bool>() + offsets[0];
    const bool* x = args.x.as<bool>() + offsets[1];
    for (std::int64_t i = 0; i < n; ++i) y[i * w.inner_stride(0)] = !x[i * w.inner_stride(1)];
  });
}

void unary_forward(const Unary::Forward& args, const Stream&) {
  if (args.fn == UnaryFn::logical_not) return logical_not(args);
  dispatch_arithmetic(args.x.dtype, "unary", [&]<class T>() {
    using C = compute_t<T>;
    const UnaryRows<C> rows = rows_or_fail<T>(args.fn);
    const Constants<C> k{args.a.to<C>(), args.b.to<C>()};
    const Walk<2> w = make_walk<2>({&args.y, &args.x});
    const std::int64_t sy = w.inner_stride(0);
    const std::int64_t sx = w.inner_stride(1);
    for_each_row(w, rows.cost, [&](const auto& offsets, std::int64_t n) {
      T* y = args.y.as<T>() + offsets[0];
      const T* x = args.x.as<T>() + offsets[1];
      if constexpr (std::is_same_v<T, C>) {
        if (sy == 1 && sx == 1) return rows.value(x, y, n, k);
      }
      C in[kStage];
      C out[kStage];
      for (std::int64_t i = 0; i < n; i += kStage) {
        const std::int64_t m = std::min(kStage, n - i);
        rows.value(staged(x + i * sx, sx, m, in), out, m, k);
        store_stage(y + i * sy, sy, out, m);
      }
    });
  });
}

void unary_backward(const Unary::Backward& args, const Stream&) {
  dispatch_floating(args.dy.dtype, "unary", [&]<class T>() {
    using C = compute_t<T>;
    const UnaryRows<C> rows = rows_or_fail<T>(args.fn);
    const Constants<C> k{args.a.to<C>(), args.b.to<C>()};
    // A function that needs no saved tensor is handed dy in its place.
    const View& saved = args.saved.defined ? args.saved : args.dy;
    const Walk<3> w = make_walk<3>({&args.dx, &args.dy, &saved});
    const std::int64_t sdx = w.inner_stride(0);
    const std::int64_t sdy = w.inner_stride(1);
    const std::int64_t ss = w.inner_stride(2);
    for_each_row(w, rows.cost, [&](const auto& offsets, std::int64_t n) {
      T* dx = args.dx.as<T>() + offsets[0];
      const T* dy = args.dy.as<T>() + offsets[1];
      const T* s = saved.as<T>() + offsets[2];
      if constexpr (std::is_same_v<T, C>) {
        if (sdx == 1 && sdy == 1 && ss == 1) return rows.gradient(dy, s, dx, n, k);
      }
      C dy_stage[kStage];
      C s_stage[kStage];
      C out[kStage];
      for (std::int64_t i = 0; i < n; i += kStage) {
        const std::int64_t m = std::min(kStage, n - i);
        rows.gradient(staged(dy + i * sdy, sdy, m, dy_stage), staged(s + i * ss, ss, m, s_stage), out, m, k);
        store_stage(dx + i * sdx, sdx, out, m);
      }
    });
  });
}

}  // namespace

template <class C>
UnaryRows<C> unary_rows(UnaryFn function) {
  return rows_or_fail<C>(function);
}
template UnaryRows<float> unary_rows(UnaryFn);
template UnaryRows<double> unary_rows(UnaryFn);

void register_unary() {
  register_kernel<Unary>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, unary_forward, unary_backward});
}

}  // namespace trinix::cpu
