// Variance, of the contract core/ops/reduce.h.
#include <trinix/backends/cpu/reduction.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/reduce.h>

namespace trinix::cpu {

namespace {

void store_nan(const Variance::Forward& args) {
  if (args.out.numel() == 0) return;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const View* v : {&args.mean, &args.out}) {
    const ReducePlan plan = make_reduce_plan(*v, *v);
    for (std::int64_t i = 0; i < plan.outputs(); ++i) store_outputs(plan, *v, i, &nan, 1);
  }
}

void variance_forward(const Variance::Forward& args, const Stream&) {
  if (args.x.numel() == 0) return store_nan(args);
  const ReducePlan plan = make_reduce_plan(args.x, args.out);
  // The kept dims are merged with regard to x and one output; the other has its own plan if it lies differently.
  const bool alike = args.mean.strides == args.out.strides;
  const ReducePlan mean_plan = alike ? plan : make_reduce_plan(args.x, args.mean);
  const double count = static_cast<double>(plan.count());
  const double freedom = std::max(count - args.correction, 0.0);
  dispatch_floating(args.x.dtype, "variance", [&]<class T>() {
    using C = compute_t<T>;
    using W = double;
    const auto means = std::make_unique_for_overwrite<W[]>(static_cast<std::size_t>(plan.outputs()));
    const auto keep = [&](std::int64_t begin, W* values, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) values[i] /= count;
      std::copy(values, values + n, means.get() + begin);
      store_outputs(mean_plan, args.mean, begin, values, n);
    };
    reduce<Sum, C, W>(plan, args.x.data, load_from<C, T>, nullptr, Emit<W>::to(keep));
    const auto finish = [&](std::int64_t begin, W* values, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) values[i] /= freedom;
      store_outputs(plan, args.out, begin, values, n);
    };
    reduce<SumSquares, C, W>(plan, args.x.data, load_from<C, T>, means.get(), Emit<W>::to(finish));
  });
}

}  // namespace

void register_variance() {
  register_kernel<Variance>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, variance_forward, nullptr});
}

}  // namespace trinix::cpu
