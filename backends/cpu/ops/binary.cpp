#include <cmath>

#include <trinix/backends/dispatch.h>
#include <trinix/backends/cpu/loops.h>
#include <trinix/core/ops/elementwise.h>

namespace trinix::cpu {

namespace {

/// z = f(x, y) along one row. The strides that occur in practice are constants to the compiler, so that it vectorises.
template <class T, class R, class F>
void row(R* z, const T* x, const T* y, std::int64_t n, std::int64_t sz, std::int64_t sx, std::int64_t sy, F f) {
  using C = compute_t<T>;
  if (sz == 1 && sx == 1 && sy == 1) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) z[i] = R(f(static_cast<C>(x[i]), static_cast<C>(y[i])));
  } else if (sz == 1 && sx == 1 && sy == 0) {
    const C b = static_cast<C>(*y);
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) z[i] = R(f(static_cast<C>(x[i]), b));
  } else {
    for (std::int64_t i = 0; i < n; ++i) z[i * sz] = R(f(static_cast<C>(x[i * sx]), static_cast<C>(y[i * sy])));
  }
}

template <class T, class R, class Args, class F>
void run_binary(const Args& args, std::int64_t cost, F f) {
  const Walk<3> w = make_walk<3>({&args.z, &args.x, &args.y});
  for_each_row(w, cost, [&](const auto& offsets, std::int64_t n) {
    row(args.z.template as<R>() + offsets[0], args.x.template as<T>() + offsets[1],
        args.y.template as<T>() + offsets[2], n, w.inner_stride(0), w.inner_stride(1), w.inner_stride(2), f);
  });
}

template <class C>
C nan_max(C a, C b) {
  return a > b || a != a ? a : b;
}
template <class C>
C nan_min(C a, C b) {
  return a < b || a != a ? a : b;
}

void arithmetic(const Binary::Forward& args) {
  dispatch_arithmetic(args.x.dtype, "binary", [&]<class T>() {
    using C = compute_t<T>;
    // Integers wrap as in NumPy; in unsigned arithmetic that is defined.
    using W = typename std::conditional_t<std::is_integral_v<C>, std::make_unsigned<C>, std::type_identity<C>>::type;
    switch (args.fn) {
      case BinaryFn::add:
        return run_binary<T, T>(args, 1, [](C a, C b) { return C(W(a) + W(b)); });
      case BinaryFn::sub:
        return run_binary<T, T>(args, 1, [](C a, C b) { return C(W(a) - W(b)); });
      case BinaryFn::mul:
        return run_binary<T, T>(args, 1, [](C a, C b) { return C(W(a) * W(b)); });
      case BinaryFn::maximum:
        return run_binary<T, T>(args, 1, [](C a, C b) { return nan_max(a, b); });
      case BinaryFn::minimum:
        return run_binary<T, T>(args, 1, [](C a, C b) { return nan_min(a, b); });
      default:
        break;
    }
    if constexpr (std::is_floating_point_v<C>) {
      if (args.fn == BinaryFn::div) return run_binary<T, T>(args, 2, [](C a, C b) { return a / b; });
      if (args.fn == BinaryFn::pow) return run_binary<T, T>(args, 30, [](C a, C b) { return std::pow(a, b); });
    }
    trinix::detail::fail<DtypeError>("binary", "this function does not take {}", args.x.dtype);
  });
}

void binary_forward(const Binary::Forward& args, const Stream&) {
  switch (args.fn) {
    case BinaryFn::logical_and:
      return run_binary<bool, bool>(args, 1, [](bool a, bool b) { return a && b; });
    case BinaryFn::logical_or:
      return run_binary<bool, bool>(args, 1, [](bool a, bool b) { return a || b; });
    case BinaryFn::logical_xor:
      return run_binary<bool, bool>(args, 1, [](bool a, bool b) { return a != b; });
    default:
      return arithmetic(args);
  }
}

void compare_forward(const Compare::Forward& args, const Stream&) {
  dispatch_all(args.x.dtype, "compare", [&]<class T>() {
    using C = compute_t<T>;
    switch (args.relation) {
      case Relation::equal:
        return run_binary<T, bool>(args, 1, [](C a, C b) { return a == b; });
      case Relation::not_equal:
        return run_binary<T, bool>(args, 1, [](C a, C b) { return a != b; });
      case Relation::less:
        return run_binary<T, bool>(args, 1, [](C a, C b) { return a < b; });
      case Relation::less_equal:
        return run_binary<T, bool>(args, 1, [](C a, C b) { return a <= b; });
      case Relation::greater:
        return run_binary<T, bool>(args, 1, [](C a, C b) { return a > b; });
      case Relation::greater_equal:
        return run_binary<T, bool>(args, 1, [](C a, C b) { return a >= b; });
    }
  });
}

void where_forward(const Where::Forward& args, const Stream&) {
  const Walk<4> w = make_walk<4>({&args.z, &args.condition, &args.x, &args.y});
  dispatch_by_size(args.z.dtype, [&]<class T>() {
    for_each_row(w, 1, [&](const auto& offsets, std::int64_t n) {
      T* z = args.z.as<T>() + offsets[0];
      const bool* c = args.condition.as<bool>() + offsets[1];
      const T* x = args.x.as<T>() + offsets[2];
      const T* y = args.y.as<T>() + offsets[3];
      const std::int64_t sz = w.inner_stride(0), sc = w.inner_stride(1), sx = w.inner_stride(2), sy = w.inner_stride(3);
      for (std::int64_t i = 0; i < n; ++i) z[i * sz] = c[i * sc] ? x[i * sx] : y[i * sy];
    });
  });
}

}  // namespace

void register_binary() {
  register_kernel<Binary>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, binary_forward, nullptr});
  register_kernel<Compare>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, compare_forward, nullptr});
  register_kernel<Where>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, where_forward, nullptr});
}

}  // namespace trinix::cpu
