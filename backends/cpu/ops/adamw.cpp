#include <cmath>
#include <vector>

#include <trinix/backends/cpu/pieces.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/adamw.h>

namespace trinix::cpu {

namespace {

/// The factors of one rule, reduced to what the inner loop multiplies with.
struct Factors {
  double decay;       // 1 - lr weight_decay
  double grad_scale;  // its sign included
  double one_less_beta1;
  double beta2;
  double one_less_beta2;
  double step_size;   // lr / (1 - beta1^step)
  double root_scale;  // 1 / sqrt(1 - beta2^step)
  double eps;
};

Factors factors_of(const AdamWRule& r, double grad_scale) {
  const auto step = static_cast<double>(r.step);
  return {.decay = 1 - r.lr * r.weight_decay,
          .grad_scale = r.maximize ? -grad_scale : grad_scale,
          .one_less_beta1 = 1 - r.beta1,
          .beta2 = r.beta2,
          .one_less_beta2 = 1 - r.beta2,
          .step_size = r.lr / (1 - std::pow(r.beta1, step)),
          .root_scale = 1 / std::sqrt(1 - std::pow(r.beta2, step)),
          .eps = r.eps};
}

template <class T>
void update(const AdamWItem& item, const Factors& f, std::int64_t begin, std::int64_t end) {
  using C = compute_t<T>;
  T* __restrict p = item.param.as<T>() + begin;
  const T* __restrict g = item.grad.as<T>() + begin;
  C* __restrict m = item.exp_avg.as<C>() + begin;
  C* __restrict v = item.exp_avg_sq.as<C>() + begin;
  const C decay = C(f.decay), scale = C(f.grad_scale), a1 = C(f.one_less_beta1), b2 = C(f.beta2),
          a2 = C(f.one_less_beta2), step_size = C(f.step_size), root_scale = C(f.root_scale), eps = C(f.eps);
  const std::int64_t n = end - begin;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const C grad = static_cast<C>(g[i]) * scale;
    const C mean = m[i] + a1 * (grad - m[i]);
    const C square = b2 * v[i] + a2 * grad * grad;
    m[i] = mean;
    v[i] = square;
    p[i] = T(static_cast<C>(p[i]) * decay - step_size * mean / (std::sqrt(square) * root_scale + eps));
  }
}

void adamw_forward(const AdamW::Forward& args, const Stream&) {
  std::vector<Factors> factors;
  factors.reserve(args.rules.size());
  for (const AdamWRule& rule : args.rules) factors.push_back(factors_of(rule, args.grad_scale));
  for (const AdamWItem& item : args.items) dispatch_floating(item.param.dtype, "adamw", []<class T>() {});

  const Pieces pieces(args.items.size(), [&](std::size_t i) { return args.items[i].param.count; });
  pieces.for_each(4, [&](std::int64_t, std::size_t i, std::int64_t begin, std::int64_t end) {
    const AdamWItem& item = args.items[i];
    const Factors& f = factors[static_cast<std::size_t>(item.rule)];
    dispatch_floating(item.param.dtype, "adamw", [&]<class T>() { update<T>(item, f, begin, end); });
  });
}

}  // namespace

void register_adamw() {
  register_kernel<AdamW>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, adamw_forward, nullptr});
}

}  // namespace trinix::cpu
