#include <cmath>

#include <trinix/backends/cpu/reduction.h>
#include <trinix/backends/cpu/vector_math.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/reduce.h>

namespace trinix::cpu {

namespace {

struct SumAbs : JoinBySum {
  template <class C>
  static C map(C x, C) {
    return std::fabs(x);
  }
};

/// sum of exp(x - shift)
struct SumExp : JoinBySum {
  static constexpr int kCost = 4;
  template <class C>
  static C map(C x, C shift) {
    return vm::exp(x - shift);
  }
};

struct Product {
  static constexpr int kCost = 1;
  template <class C>
  static C identity() {
    return 1;
  }
  template <class C>
  static C map(C x, C) {
    return x;
  }
  template <class C>
  static C join(C a, C b) {
    if constexpr (std::is_integral_v<C>) {
      return static_cast<C>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
    } else {
      return a * b;
    }
  }
};

/// For any and all: every dtype as 0 or 1.
template <class T>
const std::int64_t* load_truth(const void* data, std::int64_t offset, std::int64_t stride, std::int64_t n,
                               std::int64_t* buffer) {
  const T* from = static_cast<const T*>(data) + offset;
  for (std::int64_t i = 0; i < n; ++i) buffer[i] = from[i * stride] != T(0) ? 1 : 0;
  return buffer;
}

/// What is left when there is nothing to reduce.
double over_nothing(ReduceFn fn) {
  switch (fn) {
    case ReduceFn::prod:
      return 1;
    case ReduceFn::all:
      return 1;
    case ReduceFn::mean:
      return std::numeric_limits<double>::quiet_NaN();
    case ReduceFn::logsumexp:
      return -std::numeric_limits<double>::infinity();
    default:
      return 0;
  }
}

void store_over_nothing(const Reduce::Forward& args) {
  if (args.accumulate || args.out.numel() == 0) return;
  const ReducePlan plan = make_reduce_plan(args.out, args.out);  // gives the numbering of outputs; nothing is read
  const double value = over_nothing(args.fn);
  for (std::int64_t i = 0; i < plan.outputs(); ++i) store_outputs(plan, args.out, i, &value, 1);
}

/// Floating point; C is the compute type.
template <class C>
void reduce_floating(const Reduce::Forward& args, const ReducePlan& plan, Loader<C> load, Loader<double> load_wide) {
  using W = double;
  const void* x = args.x.data;
  const double count = static_cast<double>(plan.count());
  const auto store = [&](std::int64_t begin, W* values, std::int64_t n) {
    if (args.fn == ReduceFn::mean) {
      for (std::int64_t i = 0; i < n; ++i) values[i] /= count;
    }
    store_outputs(plan, args.out, begin, values, n, args.accumulate);
  };
  const Emit<W> emit = Emit<W>::to(store);
  switch (args.fn) {
    case ReduceFn::sum:
    case ReduceFn::mean:
      return reduce<Sum, C, W>(plan, x, load, nullptr, emit);
    case ReduceFn::sum_squares:
      return reduce<SumSquares, C, W>(plan, x, load, nullptr, emit);
    case ReduceFn::sum_abs:
      return reduce<SumAbs, C, W>(plan, x, load, nullptr, emit);
    case ReduceFn::max:
      return reduce<Max, C, W>(plan, x, load, nullptr, emit);
    case ReduceFn::min:
      return reduce<Min, C, W>(plan, x, load, nullptr, emit);
    // In double, so that partial products of f32 factors do not overflow where the whole would not.
    case ReduceFn::prod:
      return reduce<Product, double, W>(plan, x, load_wide, nullptr, emit);
    case ReduceFn::logsumexp:
      break;
    default:
      trinix::detail::fail<DtypeError>("reduce", "this function does not take {}", args.x.dtype);
  }
  // log(sum(exp(x))) = m + log(sum(exp(x - m))) with the largest element m, or 0 where that is infinite or NaN.
  const auto largest = std::make_unique_for_overwrite<W[]>(static_cast<std::size_t>(plan.outputs()));
  const auto keep = [&](std::int64_t begin, W* values, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) largest[begin + i] = std::isfinite(values[i]) ? values[i] : 0.0;
  };
  reduce<Max, C, W>(plan, x, load, nullptr, Emit<W>::to(keep));
  const auto finish = [&](std::int64_t begin, W* values, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) values[i] = largest[begin + i] + std::log(values[i]);
    store_outputs(plan, args.out, begin, values, n);
  };
  reduce<SumExp, C, W>(plan, x, load, largest.get(), Emit<W>::to(finish));
}

void reduce_integral(const Reduce::Forward& args, const ReducePlan& plan, Loader<std::int64_t> load) {
  using W = std::int64_t;
  const auto store = [&](std::int64_t begin, W* values, std::int64_t n) {
    store_outputs(plan, args.out, begin, values, n, args.accumulate);
  };
  const Emit<W> emit = Emit<W>::to(store);
  switch (args.fn) {
    case ReduceFn::sum:
      return reduce<Sum, W, W>(plan, args.x.data, load, nullptr, emit);
    case ReduceFn::prod:
      return reduce<Product, W, W>(plan, args.x.data, load, nullptr, emit);
    case ReduceFn::any:
    case ReduceFn::max:
      return reduce<Max, W, W>(plan, args.x.data, load, nullptr, emit);
    case ReduceFn::all:
    case ReduceFn::min:
      return reduce<Min, W, W>(plan, args.x.data, load, nullptr, emit);
    default:
      trinix::detail::fail<DtypeError>(
          "reduce", "this function takes floating-point tensors, got {}: convert with to()", args.x.dtype);
  }
}

void reduce_forward(const Reduce::Forward& args, const Stream&) {
  if (args.x.numel() == 0) return store_over_nothing(args);
  const ReducePlan plan = make_reduce_plan(args.x, args.out);
  dispatch_all(args.x.dtype, "reduce", [&]<class T>() {
    if (args.fn == ReduceFn::any || args.fn == ReduceFn::all) {
      reduce_integral(args, plan, load_truth<T>);
    } else if constexpr (std::is_integral_v<T>) {
      reduce_integral(args, plan, load_from<std::int64_t, T>);
    } else {
      reduce_floating<compute_t<T>>(args, plan, load_from<compute_t<T>, T>, load_from<double, T>);
    }
  });
}

}  // namespace

void register_reduce() {
  register_kernel<Reduce>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, reduce_forward, nullptr});
}

}  // namespace trinix::cpu
