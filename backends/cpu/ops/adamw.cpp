#include <cmath>
#include <type_traits>
#include <vector>

#include <trinix/backends/cpu/pieces.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/adamw.h>

namespace trinix::cpu {

namespace {

/// P, G: storage types of parameter and gradient. With kMaster the f32 copy is updated and the parameter written.
template <class P, class G, bool kMaster>
void update(const AdamWItem& item, const AdamWFactors& f, double grad_scale, std::int64_t begin, std::int64_t end) {
  using C = compute_t<P>;
  P* __restrict p = item.param.as<P>() + begin;
  const G* __restrict g = item.grad.as<G>() + begin;
  C* __restrict m = item.exp_avg.as<C>() + begin;
  C* __restrict v = item.exp_avg_sq.as<C>() + begin;
  C* __restrict w = kMaster ? item.master.as<C>() + begin : nullptr;
  const C decay = C(f.decay), scale = C(f.sign * grad_scale), a1 = C(f.one_less_beta1), b2 = C(f.beta2),
          a2 = C(f.one_less_beta2), step_size = C(f.step_size), root_scale = C(f.root_scale), eps = C(f.eps);
  const std::int64_t n = end - begin;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const C grad = static_cast<C>(g[i]) * scale;
    const C mean = m[i] + a1 * (grad - m[i]);
    const C square = b2 * v[i] + a2 * grad * grad;
    m[i] = mean;
    v[i] = square;
    const C old = kMaster ? w[i] : static_cast<C>(p[i]);
    const C now = old * decay - step_size * mean / (std::sqrt(square) * root_scale + eps);
    if constexpr (kMaster) w[i] = now;
    p[i] = P(now);
  }
}

/// Calls f with the storage types of parameter and gradient.
template <class F>
void with_types(const AdamWItem& item, F&& f) {
  dispatch_floating(item.param.dtype, "adamw", [&]<class P>() {
    if (item.grad.dtype == item.param.dtype) {
      f.template operator()<P, P>();
    } else if (item.grad.dtype == compute_type(item.param.dtype)) {
      f.template operator()<P, compute_t<P>>();
    } else {
      trinix::detail::fail<DtypeError>("adamw", "a gradient of {} does not fit a parameter of {}", item.grad.dtype,
                                       item.param.dtype);
    }
  });
}

void update_piece(const AdamWItem& item, const AdamWFactors& f, double grad_scale, std::int64_t begin,
                  std::int64_t end) {
  with_types(item, [&]<class P, class G>() {
    if constexpr (!std::is_same_v<P, compute_t<P>>) {
      if (item.master.data != nullptr) return update<P, G, true>(item, f, grad_scale, begin, end);
    }
    update<P, G, false>(item, f, grad_scale, begin, end);
  });
}

void adamw_forward(const AdamW::Forward& args, const Stream&) {
  double grad_scale = args.grad_scale;
  if (args.norm.defined) {
    const double norm = *args.norm.as<double>();
    if (!std::isfinite(norm)) {
      if (args.skipped.defined) ++*args.skipped.as<std::int64_t>();
      return;
    }
    grad_scale *= adamw_clip(norm, args.grad_scale, args.max_norm);
  }
  std::vector<AdamWFactors> factors;
  factors.reserve(args.rules.size());
  for (const AdamWRule& rule : args.rules) factors.push_back(adamw_factors(rule));
  const AdamWFactors* const all = args.factors != nullptr ? args.factors : factors.data();
  for (const AdamWItem& item : args.items) with_types(item, []<class P, class G>() {});

  const Pieces pieces(args.items.size(), [&](std::size_t i) { return args.items[i].param.count; });
  pieces.for_each(4, [&](std::int64_t, std::size_t i, std::int64_t begin, std::int64_t end) {
    const AdamWItem& item = args.items[i];
    update_piece(item, all[item.rule], grad_scale, begin, end);
  });
}

}  // namespace

void register_adamw() {
  register_kernel<AdamW>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, adamw_forward, nullptr});
}

}  // namespace trinix::cpu
