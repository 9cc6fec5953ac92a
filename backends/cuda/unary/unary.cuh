#pragma once

#include <trinix/backends/cuda/device/math.cuh>
#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/cuda/unary/unary.h>
#include <trinix/backends/unary_visit.h>

/// @file
/// The kernels of Unary for one storage type; one .cu file per type keeps each short to compile. Floors: forward one
/// read and one write of the tensor; backward two reads (one if nothing is saved) and one write.
///
/// Contiguous 16 and 32-bit floats, the common case, have one kernel per function. Everything else shares one kernel,
/// in which the function is chosen as it runs: the same for all threads, so it costs a few instructions, and it spares
/// hundreds of kernels.

namespace trinix::cuda {

/// The mathematics for values stored as T.
template <class T>
using MathOf = std::conditional_t<sizeof(T) == 2 && !std::is_integral_v<T>, NarrowMath, DeviceMath>;

/// Any function, chosen at run time.
template <class M, class C>
struct AnyValue {
  UnaryFn fn;
  fn::Constants<C> k;

  struct Apply {
    C x;
    fn::Constants<C> k;
    template <class Function>
    constexpr void operator()() {
      x = Function::value(x, k);
    }
  };
  __device__ C operator()(C x) const {
    Apply apply{x, k};
    fn::visit<M, C>(fn, apply);
    return apply.x;
  }
};

template <class Function, class M, class C>
struct Value {
  AnyValue<M, C> any;
  __device__ C operator()(C x) const { return Function::value(x, any.k); }
  AnyValue<M, C> strided() const { return any; }
};

template <class M, class C>
struct AnyGradient {
  UnaryFn fn;
  fn::Constants<C> k;

  struct Apply {
    C dy;
    C saved;
    fn::Constants<C> k;
    template <class Function>
    constexpr void operator()() {
      dy = Function::gradient(dy, saved, k);
    }
  };
  __device__ C operator()(C dy, C saved) const {
    Apply apply{dy, saved, k};
    fn::visit<M, C>(fn, apply);
    return apply.dy;
  }
};

template <class Function, class M, class C>
struct Gradient {
  AnyGradient<M, C> any;
  __device__ C operator()(C dy, C saved) const { return Function::gradient(dy, saved, any.k); }
  AnyGradient<M, C> strided() const { return any; }
};

/// The functions of which nothing is saved; all others that save nothing are flat.
template <class C>
struct GradientAlone {
  UnaryFn fn;
  fn::Constants<C> k;
  __device__ C operator()(C dy) const {
    switch (fn) {
      case UnaryFn::add_scalar:
        return dy;
      case UnaryFn::mul_scalar:
        return fn::MulScalar::gradient(dy, dy, k);
      case UnaryFn::div_scalar:
        return fn::DivScalar::gradient(dy, dy, k);
      case UnaryFn::rsub_scalar:
      case UnaryFn::neg:
        return -dy;
      default:
        return C(0);
    }
  }
};

/// Whether functions of T get kernels of their own.
template <class T>
inline constexpr bool kSpecialised = std::is_same_v<compute_t<T>, float>;

template <class T>
void unary_values(const Unary::Forward& args, const Stream& stream) {
  using C = compute_t<T>;
  using M = MathOf<T>;
  const AnyValue<M, C> any{args.fn, {args.a.to<C>(), args.b.to<C>()}};
  const bool found = fn::visit<M, C>(args.fn, [&]<class Function>() {
    if constexpr (kSpecialised<T>) map<T, T>("unary", stream, Value<Function, M, C>{any}, {&args.y, &args.x});
  });
  if (!found) {
    trinix::detail::fail<DtypeError>("unary", "this function does not take {}: convert with to()", dtype_of<T>);
  }
  if constexpr (!kSpecialised<T>) map<T, T>("unary", stream, any, {&args.y, &args.x});
}

template <class T>
void unary_gradients(const Unary::Backward& args, const Stream& stream) {
  using C = compute_t<T>;
  using M = MathOf<T>;
  const fn::Constants<C> k{args.a.to<C>(), args.b.to<C>()};
  if (!args.saved.defined) {
    return map<T, T>("unary", stream, GradientAlone<C>{args.fn, k}, {&args.dx, &args.dy});
  }
  const AnyGradient<M, C> any{args.fn, k};
  if constexpr (kSpecialised<T>) {
    fn::visit<M, C>(args.fn, [&]<class Function>() {
      map<T, T, T>("unary", stream, Gradient<Function, M, C>{any}, {&args.dx, &args.dy, &args.saved});
    });
  } else {
    map<T, T, T>("unary", stream, any, {&args.dx, &args.dy, &args.saved});
  }
}

}  // namespace trinix::cuda
