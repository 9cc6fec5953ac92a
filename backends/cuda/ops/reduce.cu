#include <cfloat>
#include <type_traits>

#include <trinix/backends/cuda/reduction.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/reduce.h>

namespace trinix::cuda {

namespace {

/// Sums of integers and booleans are in i64, of 16-bit floats in f32.
template <class T>
using SumOf = std::conditional_t<std::is_integral_v<T>, std::int64_t, compute_t<T>>;

template <class C>
__device__ C lowest() {
  if constexpr (std::is_floating_point_v<C>) {
    return -static_cast<C>(INFINITY);
  } else if constexpr (std::is_same_v<C, bool>) {
    return false;
  } else if constexpr (std::is_unsigned_v<C>) {
    return 0;
  } else {
    return static_cast<C>(std::int64_t{1} << (8 * sizeof(C) - 1));
  }
}
template <class C>
__device__ C highest() {
  if constexpr (std::is_floating_point_v<C>) {
    return static_cast<C>(INFINITY);
  } else if constexpr (std::is_same_v<C, bool>) {
    return true;
  } else {
    return static_cast<C>(~lowest<C>());
  }
}

/// Four-byte states shuffle; smaller types are widened to them.
template <class C>
using StateOf = std::conditional_t<(sizeof(C) < 4), std::int32_t, C>;

template <class C, ReduceFn kFn>
struct Monoid {
  using State = StateOf<C>;
  __device__ State identity() const {
    if constexpr (kFn == ReduceFn::prod || kFn == ReduceFn::all) return State(1);
    if constexpr (kFn == ReduceFn::max) return State(lowest<C>());
    if constexpr (kFn == ReduceFn::min) return State(highest<C>());
    return State(0);
  }
  template <class T>
  __device__ State add(State s, T value, std::int64_t) const {
    const auto v = static_cast<State>(value);
    if constexpr (kFn == ReduceFn::sum_squares) return s + v * v;
    if constexpr (kFn == ReduceFn::sum_abs) return s + (v < 0 ? -v : v);
    if constexpr (kFn == ReduceFn::any || kFn == ReduceFn::all) return merge(s, State(value != T(0)));
    return merge(s, v);
  }
  __device__ State merge(State a, State b) const {
    if constexpr (kFn == ReduceFn::prod) return a * b;
    if constexpr (kFn == ReduceFn::max) return a > b || a != a ? a : b;
    if constexpr (kFn == ReduceFn::min) return a < b || a != a ? a : b;
    if constexpr (kFn == ReduceFn::any) return a | b;
    if constexpr (kFn == ReduceFn::all) return a & b;
    return a + b;
  }
  __device__ C finish(State s, std::int64_t count) const {
    if constexpr (kFn == ReduceFn::mean) return static_cast<C>(s / static_cast<State>(count));
    if constexpr (kFn == ReduceFn::any || kFn == ReduceFn::all) return s != 0;
    return static_cast<C>(s);
  }
};

/// Running maximum and sum of exp(x - maximum).
template <class C>
struct LogSumExp {
  struct State {
    C max;
    C sum;
  };
  __device__ State identity() const { return {-static_cast<C>(INFINITY), C(0)}; }
  __device__ State add(State s, C v, std::int64_t) const { return merge(s, {v, C(1)}); }
  __device__ State merge(State a, State b) const {
    const C m = a.max > b.max || a.max != a.max ? a.max : b.max;
    // Equal infinities must not meet as inf - inf.
    const auto scaled = [m](State s) { return s.max == m ? s.sum : s.sum * exp(s.max - m); };
    return {m, scaled(a) + scaled(b)};
  }
  __device__ C finish(State s, std::int64_t) const { return s.sum == 0 || isinf(s.max) ? s.max : s.max + log(s.sum); }
};

/// Place of the first best value; NaN is best of all.
template <class C, bool kLargest>
struct ArgBest {
  struct State {
    std::int64_t index;
    C value;  // the struct's size is a multiple of 8, padding included, which is what shuffles need
  };
  __device__ State identity() const { return {-1, C(0)}; }
  __device__ State add(State s, C v, std::int64_t i) const { return merge(s, {i, v}); }
  __device__ State merge(State a, State b) const {
    if (a.index < 0) return b;
    if (b.index < 0) return a;
    const bool a_nan = a.value != a.value;
    const bool b_nan = b.value != b.value;
    if (a_nan || b_nan) return a_nan && (!b_nan || a.index < b.index) ? a : b;
    if (a.value == b.value) return a.index < b.index ? a : b;
    return (kLargest ? a.value > b.value : a.value < b.value) ? a : b;
  }
  __device__ std::int64_t finish(State s, std::int64_t) const { return s.index; }
};

/// Sum of squared deviations from a mean that may have been rounded: the sum of the deviations, 0 for an exact mean,
/// corrects for that (Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983).
template <class C, class R>
struct Deviations {
  struct State {
    C sum;
    C squares;
  };
  const R* means;
  C correction;
  C mean = 0;
  __device__ Deviations of_output(std::int64_t i) const { return {means, correction, widen(means[i])}; }
  __device__ State identity() const { return {C(0), C(0)}; }
  __device__ State add(State s, C v, std::int64_t) const {
    const C d = v - mean;
    return {s.sum + d, s.squares + d * d};
  }
  __device__ State merge(State a, State b) const { return {a.sum + b.sum, a.squares + b.squares}; }
  __device__ C finish(State s, std::int64_t count) const {
    const C n = static_cast<C>(count);
    return (s.squares - s.sum * s.sum / n) / (n - correction);
  }
};

/// Calls f.operator()<T, R>(): R is T, or f32 where 16-bit values have a wide result.
template <class F>
void dispatch_result(const View& x, const View& out, F f) {
  dispatch_floating(x.dtype, "reduce", [&]<class T>() {
    if constexpr (sizeof(T) == 2) {
      if (out.dtype == DType::f32) return f.template operator()<T, float>();
    }
    f.template operator()<T, T>();
  });
}

template <ReduceFn kFn, class T, class R>
void run(const Reduce::Forward& args, const Stream& stream) {
  reduce<T, R>("reduce", Monoid<compute_t<R>, kFn>(), args.x, args.out, args.accumulate, stream);
}

template <ReduceFn kFn>
void run_floating(const Reduce::Forward& args, const Stream& stream) {
  dispatch_result(args.x, args.out, [&]<class T, class R>() { run<kFn, T, R>(args, stream); });
}
/// Integers and booleans with a result of R, or of their own type where R is void.
template <ReduceFn kFn, class R>
void run_any(const Reduce::Forward& args, const Stream& stream) {
  if (is_floating(args.x.dtype)) return run_floating<kFn>(args, stream);
  dispatch_all(args.x.dtype, "reduce", [&]<class T>() {
    if constexpr (std::is_integral_v<T>) run<kFn, T, std::conditional_t<std::is_void_v<R>, T, R>>(args, stream);
  });
}
template <ReduceFn kFn>
void run_logical(const Reduce::Forward& args, const Stream& stream) {
  dispatch_all(args.x.dtype, "reduce", [&]<class T>() { run<kFn, T, bool>(args, stream); });
}

void reduce_forward(const Reduce::Forward& args, const Stream& stream) {
  switch (args.fn) {
    case ReduceFn::sum:
      return run_any<ReduceFn::sum, std::int64_t>(args, stream);
    case ReduceFn::prod:
      return run_any<ReduceFn::prod, std::int64_t>(args, stream);
    case ReduceFn::mean:
      return run_floating<ReduceFn::mean>(args, stream);
    case ReduceFn::max:
      return run_any<ReduceFn::max, void>(args, stream);
    case ReduceFn::min:
      return run_any<ReduceFn::min, void>(args, stream);
    case ReduceFn::any:
      return run_logical<ReduceFn::any>(args, stream);
    case ReduceFn::all:
      return run_logical<ReduceFn::all>(args, stream);
    case ReduceFn::sum_squares:
      return run_floating<ReduceFn::sum_squares>(args, stream);
    case ReduceFn::sum_abs:
      return run_floating<ReduceFn::sum_abs>(args, stream);
    case ReduceFn::logsumexp:
      return dispatch_result(args.x, args.out, [&]<class T, class R>() {
        reduce<T, R>("reduce", LogSumExp<compute_t<T>>(), args.x, args.out, false, stream);
      });
  }
}

void arg_reduce_forward(const ArgReduce::Forward& args, const Stream& stream) {
  dispatch_all(args.x.dtype, "arg_reduce", [&]<class T>() {
    using C = compute_t<T>;
    if (args.largest) {
      reduce<T, std::int64_t>("arg_reduce", ArgBest<C, true>(), args.x, args.out, false, stream);
    } else {
      reduce<T, std::int64_t>("arg_reduce", ArgBest<C, false>(), args.x, args.out, false, stream);
    }
  });
}

void variance_forward(const Variance::Forward& args, const Stream& stream) {
  dispatch_result(args.x, args.out, [&]<class T, class R>() {
    using C = compute_t<R>;
    reduce<T, R>("variance", Monoid<C, ReduceFn::mean>(), args.x, args.mean, false, stream);
    const Deviations<C, R> deviations{args.mean.as<R>(), static_cast<C>(args.correction)};
    reduce<T, R>("variance", deviations, args.x, args.out, false, stream);
  });
}

}  // namespace

void register_reduce() {
  register_kernel<Reduce>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, reduce_forward, nullptr});
  register_kernel<ArgReduce>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, arg_reduce_forward, nullptr});
  register_kernel<Variance>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, variance_forward, nullptr});
}

}  // namespace trinix::cuda
