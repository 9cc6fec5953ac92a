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

/// Count, mean and sum of squared deviations, merged by the formula of Chan, Golub and LeVeque (1979), which loses no
/// more digits than two passes over the data.
template <class C>
struct Moments {
  struct State {
    C count;
    C mean;
    C squares;
  };
  C correction;
  bool want_mean;
  __device__ State identity() const { return {C(0), C(0), C(0)}; }
  __device__ State add(State s, C v, std::int64_t) const { return merge(s, {C(1), v, C(0)}); }
  __device__ State merge(State a, State b) const {
    const C n = a.count + b.count;
    if (n == 0) return a;
    const C delta = b.mean - a.mean;
    const C share = b.count / n;
    return {n, a.mean + delta * share, a.squares + b.squares + delta * delta * a.count * share};
  }
  __device__ C finish(State s, std::int64_t count) const {
    if (want_mean) return count == 0 ? static_cast<C>(NAN) : s.mean;
    return s.squares / (s.count - correction);
  }
};

template <ReduceFn kFn, class T, class R>
void run(const Reduce::Forward& args, const Stream& stream) {
  reduce<T, R>("reduce", Monoid<compute_t<R>, kFn>(), args.x, args.out, args.accumulate, stream);
}

/// Sums and products: i64 for integers and booleans.
template <ReduceFn kFn>
void run_widening(const Reduce::Forward& args, const Stream& stream) {
  dispatch_all(args.x.dtype, "reduce", [&]<class T>() {
    using R = std::conditional_t<std::is_integral_v<T>, std::int64_t, T>;
    run<kFn, T, R>(args, stream);
  });
}
template <ReduceFn kFn>
void run_same(const Reduce::Forward& args, const Stream& stream) {
  dispatch_all(args.x.dtype, "reduce", [&]<class T>() { run<kFn, T, T>(args, stream); });
}
template <ReduceFn kFn>
void run_floating(const Reduce::Forward& args, const Stream& stream) {
  dispatch_floating(args.x.dtype, "reduce", [&]<class T>() { run<kFn, T, T>(args, stream); });
}
template <ReduceFn kFn>
void run_logical(const Reduce::Forward& args, const Stream& stream) {
  dispatch_all(args.x.dtype, "reduce", [&]<class T>() { run<kFn, T, bool>(args, stream); });
}

void reduce_forward(const Reduce::Forward& args, const Stream& stream) {
  switch (args.fn) {
    case ReduceFn::sum:
      return run_widening<ReduceFn::sum>(args, stream);
    case ReduceFn::prod:
      return run_widening<ReduceFn::prod>(args, stream);
    case ReduceFn::mean:
      return run_floating<ReduceFn::mean>(args, stream);
    case ReduceFn::max:
      return run_same<ReduceFn::max>(args, stream);
    case ReduceFn::min:
      return run_same<ReduceFn::min>(args, stream);
    case ReduceFn::any:
      return run_logical<ReduceFn::any>(args, stream);
    case ReduceFn::all:
      return run_logical<ReduceFn::all>(args, stream);
    case ReduceFn::sum_squares:
      return run_floating<ReduceFn::sum_squares>(args, stream);
    case ReduceFn::sum_abs:
      return run_floating<ReduceFn::sum_abs>(args, stream);
    case ReduceFn::logsumexp:
      return dispatch_floating(args.x.dtype, "reduce", [&]<class T>() {
        reduce<T, T>("reduce", LogSumExp<compute_t<T>>(), args.x, args.out, false, stream);
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
  dispatch_floating(args.x.dtype, "variance", [&]<class T>() {
    using C = compute_t<T>;
    const C correction = static_cast<C>(args.correction);
    reduce<T, T>("variance", Moments<C>{correction, true}, args.x, args.mean, false, stream);
    reduce<T, T>("variance", Moments<C>{correction, false}, args.x, args.out, false, stream);
  });
}

}  // namespace

void register_reduce() {
  register_kernel<Reduce>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, reduce_forward, nullptr});
  register_kernel<ArgReduce>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, arg_reduce_forward, nullptr});
  register_kernel<Variance>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, variance_forward, nullptr});
}

}  // namespace trinix::cuda
