// Unary. The functions stand in unary_functions.h; here are the loops over them. Each function is compiled once per
// compute type and direction, over contiguous memory; other layouts and 16-bit types are staged in L1.
#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/cpu/staging.h>
#include <trinix/backends/cpu/unary_functions.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/elementwise.h>

namespace trinix::cpu {

namespace {

using fn::Constants;

template <class F, class C>
void value_row(const C* x, C* y, std::int64_t n, Constants<C> k) {
  if constexpr (std::is_same_v<C, float> && requires(float v) { F::covers(v); }) {
    int covered = 1;
#pragma omp simd reduction(& : covered)
    for (std::int64_t i = 0; i < n; ++i) covered &= F::covers(x[i]);
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
  if constexpr (std::is_same_v<C, float> && requires(float v) { F::covers(v); }) {
    int covered = 1;
#pragma omp simd reduction(& : covered)
    for (std::int64_t i = 0; i < n; ++i) covered &= F::covers(s[i]);
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

template <class C>
struct Rows {
  int cost = 0;
  void (*value)(const C* x, C* y, std::int64_t n, Constants<C> k) = nullptr;
  void (*gradient)(const C* dy, const C* s, C* dx, std::int64_t n, Constants<C> k) = nullptr;
};

template <class F, class C>
Rows<C> rows_for() {
  if constexpr (std::is_floating_point_v<C>) return {F::kCost, value_row<F, C>, gradient_row<F, C>};
  return {F::kCost, value_row<F, C>, nullptr};
}

template <class C>
Rows<C> rows_of(UnaryFn fn) {
  switch (fn) {
    case UnaryFn::add_scalar:
      return rows_for<fn::AddScalar, C>();
    case UnaryFn::mul_scalar:
      return rows_for<fn::MulScalar, C>();
    case UnaryFn::rsub_scalar:
      return rows_for<fn::RsubScalar, C>();
    case UnaryFn::clamp:
      return rows_for<fn::Clamp, C>();
    case UnaryFn::neg:
      return rows_for<fn::Neg, C>();
    case UnaryFn::abs:
      return rows_for<fn::Abs, C>();
    case UnaryFn::sign:
      return rows_for<fn::Sign, C>();
    case UnaryFn::square:
      return rows_for<fn::Square, C>();
    default:
      break;
  }
  if constexpr (std::is_floating_point_v<C>) {
    switch (fn) {
      case UnaryFn::div_scalar:
        return rows_for<fn::DivScalar, C>();
      case UnaryFn::rdiv_scalar:
        return rows_for<fn::RdivScalar, C>();
      case UnaryFn::pow_scalar:
        return rows_for<fn::PowScalar, C>();
      case UnaryFn::exp:
        return rows_for<fn::Exp, C>();
      case UnaryFn::expm1:
        return rows_for<fn::Expm1, C>();
      case UnaryFn::log:
        return rows_for<fn::Log, C>();
      case UnaryFn::log1p:
        return rows_for<fn::Log1p, C>();
      case UnaryFn::log2:
        return rows_for<fn::Log2, C>();
      case UnaryFn::sqrt:
        return rows_for<fn::Sqrt, C>();
      case UnaryFn::rsqrt:
        return rows_for<fn::Rsqrt, C>();
      case UnaryFn::reciprocal:
        return rows_for<fn::Reciprocal, C>();
      case UnaryFn::sin:
        return rows_for<fn::Sin, C>();
      case UnaryFn::cos:
        return rows_for<fn::Cos, C>();
      case UnaryFn::tan:
        return rows_for<fn::Tan, C>();
      case UnaryFn::tanh:
        return rows_for<fn::Tanh, C>();
      case UnaryFn::sigmoid:
        return rows_for<fn::Sigmoid, C>();
      case UnaryFn::erf:
        return rows_for<fn::Erf, C>();
      case UnaryFn::floor:
        return rows_for<fn::Floor, C>();
      case UnaryFn::ceil:
        return rows_for<fn::Ceil, C>();
      case UnaryFn::round:
        return rows_for<fn::Round, C>();
      case UnaryFn::trunc:
        return rows_for<fn::Trunc, C>();
      case UnaryFn::relu:
        return rows_for<fn::Relu, C>();
      case UnaryFn::leaky_relu:
        return rows_for<fn::LeakyRelu, C>();
      case UnaryFn::elu:
        return rows_for<fn::Elu, C>();
      case UnaryFn::silu:
        return rows_for<fn::Silu, C>();
      case UnaryFn::softplus:
        return rows_for<fn::Softplus, C>();
      case UnaryFn::gelu_tanh:
        return rows_for<fn::GeluTanh, C>();
      case UnaryFn::gelu_erf:
        return rows_for<fn::GeluErf, C>();
      case UnaryFn::quick_gelu:
        return rows_for<fn::QuickGelu, C>();
      case UnaryFn::squared_relu:
        return rows_for<fn::SquaredRelu, C>();
      case UnaryFn::mish:
        return rows_for<fn::Mish, C>();
      default:
        break;
    }
  }
  return {};
}

/// The rows for this function and type. @throws DtypeError when there are none.
template <class T>
Rows<compute_t<T>> rows_or_fail(UnaryFn fn) {
  const auto rows = rows_of<compute_t<T>>(fn);
  if (rows.value == nullptr) {
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
    const Rows<C> rows = rows_or_fail<T>(args.fn);
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
    const Rows<C> rows = rows_or_fail<T>(args.fn);
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

void register_unary() {
  register_kernel<Unary>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, unary_forward, unary_backward});
}

}  // namespace trinix::cpu
