// Binary, Compare and Where. Each function is compiled once per compute type (f32, f64, i64), over contiguous memory;
// other layouts and other dtypes are staged in L1. Integers of fewer bits wrap alike when i64 is cut to their size.
#include <cmath>

#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/cpu/staging.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/elementwise.h>

namespace trinix::cpu {

namespace {

/// A function along contiguous rows: z[i] = f(x[i], y[i]), or f(x[i], y[0]) when `one` is set.
template <class C, class R>
struct Row {
  int cost = 0;
  void (*run)(const C* x, const C* y, R* z, std::int64_t n, bool one) = nullptr;
};

template <class F, class C, class R>
void along_row(const C* x, const C* y, R* z, std::int64_t n, bool one) {
  if (one) {
    const C b = *y;
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) z[i] = F{}(x[i], b);
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) z[i] = F{}(x[i], y[i]);
  }
}

/// The row of a function object without state.
template <class C, class R, class F>
Row<C, R> row_of(int cost, F) {
  return {cost, along_row<F, C, R>};
}

/// z = f(x, y), where x and y are read and z is written as C and R.
template <class C, class R, class Args>
void run_rows(const Args& args, const Row<C, R>& f, Load<C> load, Store<R> put) {
  const Walk<3> w = make_walk<3>({&args.z, &args.x, &args.y});
  const std::int64_t sz = w.inner_stride(0), sx = w.inner_stride(1), sy = w.inner_stride(2);
  const bool one = sy == 0;
  const bool in_place = load.is_copy && put.is_copy && sz == 1 && sx == 1 && (sy == 1 || one);
  for_each_row(w, f.cost, [&](const auto& offsets, std::int64_t n) {
    if (in_place) {
      const C* x = static_cast<const C*>(args.x.data) + offsets[1];
      const C* y = static_cast<const C*>(args.y.data) + offsets[2];
      return f.run(x, y, static_cast<R*>(args.z.data) + offsets[0], n, one);
    }
    C x_stage[kStage];
    C y_stage[kStage];
    R z_stage[kStage];
    for (std::int64_t i = 0; i < n; i += kStage) {
      const std::int64_t m = std::min(kStage, n - i);
      const C* x = load.run(args.x.data, offsets[1] + i * sx, sx, m, x_stage);
      const C* y = load.run(args.y.data, offsets[2] + i * sy, sy, one ? 1 : m, y_stage);
      f.run(x, y, z_stage, m, one);
      put.run(args.z.data, offsets[0] + i * sz, sz, z_stage, m);
    }
  });
}

/// The type in which a storage type is compared and computed here.
template <class T>
using row_t = std::conditional_t<std::is_integral_v<T>, std::int64_t, compute_t<T>>;

template <class C>
C nan_max(C a, C b) {
  return a > b || a != a ? a : b;
}
template <class C>
C nan_min(C a, C b) {
  return a < b || a != a ? a : b;
}

/// Nothing when the function does not exist for C.
template <class C>
Row<C, C> arithmetic_row(BinaryFn fn) {
  // Integers wrap around, in unsigned arithmetic that is defined.
  using W = typename std::conditional_t<std::is_integral_v<C>, std::make_unsigned<C>, std::type_identity<C>>::type;
  switch (fn) {
    case BinaryFn::add:
      return row_of<C, C>(1, [](C a, C b) { return C(W(a) + W(b)); });
    case BinaryFn::sub:
      return row_of<C, C>(1, [](C a, C b) { return C(W(a) - W(b)); });
    case BinaryFn::mul:
      return row_of<C, C>(1, [](C a, C b) { return C(W(a) * W(b)); });
    case BinaryFn::maximum:
      return row_of<C, C>(1, [](C a, C b) { return nan_max(a, b); });
    case BinaryFn::minimum:
      return row_of<C, C>(1, [](C a, C b) { return nan_min(a, b); });
    default:
      break;
  }
  if constexpr (std::is_floating_point_v<C>) {
    if (fn == BinaryFn::div) return row_of<C, C>(2, [](C a, C b) { return a / b; });
    if (fn == BinaryFn::pow) return row_of<C, C>(30, [](C a, C b) { return std::pow(a, b); });
  }
  return {};
}

void binary_forward(const Binary::Forward& args, const Stream&) {
  switch (args.fn) {
    case BinaryFn::logical_and:
      return run_rows(args, row_of<bool, bool>(1, [](bool a, bool b) { return a && b; }), load_of<bool, bool>,
                      store_of<bool, bool>);
    case BinaryFn::logical_or:
      return run_rows(args, row_of<bool, bool>(1, [](bool a, bool b) { return a || b; }), load_of<bool, bool>,
                      store_of<bool, bool>);
    case BinaryFn::logical_xor:
      return run_rows(args, row_of<bool, bool>(1, [](bool a, bool b) { return a != b; }), load_of<bool, bool>,
                      store_of<bool, bool>);
    default:
      break;
  }
  dispatch_arithmetic(args.x.dtype, "binary", [&]<class T>() {
    using C = row_t<T>;
    const Row<C, C> f = arithmetic_row<C>(args.fn);
    if (f.run == nullptr) trinix::detail::fail<DtypeError>("binary", "this function does not take {}", args.x.dtype);
    run_rows(args, f, load_of<C, T>, store_of<C, T>);
  });
}

template <class C>
Row<C, bool> comparison_row(Relation relation) {
  switch (relation) {
    case Relation::equal:
      return row_of<C, bool>(1, [](C a, C b) { return a == b; });
    case Relation::not_equal:
      return row_of<C, bool>(1, [](C a, C b) { return a != b; });
    case Relation::less:
      return row_of<C, bool>(1, [](C a, C b) { return a < b; });
    case Relation::less_equal:
      return row_of<C, bool>(1, [](C a, C b) { return a <= b; });
    case Relation::greater:
      return row_of<C, bool>(1, [](C a, C b) { return a > b; });
    case Relation::greater_equal:
      break;
  }
  return row_of<C, bool>(1, [](C a, C b) { return a >= b; });
}

void compare_forward(const Compare::Forward& args, const Stream&) {
  dispatch_all(args.x.dtype, "compare", [&]<class T>() {
    using C = row_t<T>;
    run_rows(args, comparison_row<C>(args.relation), load_of<C, T>, store_of<bool, bool>);
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
