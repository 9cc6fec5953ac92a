#include <algorithm>
#include <cmath>
#include <vector>

#include <trinix/backends/cpu/pieces.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/muon_direction.h>

namespace trinix::cpu {

namespace {

/// Advances the momentum of a range, writes the direction, and returns the sum of its squares. G, M, O: storage types
/// of gradient, momentum and direction.
template <class G, class M, class O>
double direction(const MuonItem& item, const MuonFactors& f, double factor, double clip_value, std::int64_t begin,
                 std::int64_t end) {
  using C = compute_t<G>;
  const G* __restrict g = item.grad.as<G>();
  M* __restrict m = item.momentum.as<M>();
  O* __restrict out = item.out.as<O>();
  const C scale = C(f.sign * factor), bound = C(clip_value), gain = C(f.gain), of_mean = C(f.of_mean),
          of_grad = C(f.of_grad);
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = begin; i < end; ++i) {
    const C scaled = static_cast<C>(g[i]) * scale;
    const C below = scaled > bound ? bound : scaled;
    const C grad = below < -bound ? -bound : below;
    const C old = static_cast<C>(m[i]);
    const C mean = old + gain * (grad - old);
    m[i] = M(mean);
    const O u = O(of_mean * mean + of_grad * grad);
    out[i] = u;
    const auto value = static_cast<double>(static_cast<C>(u));
    sum += value * value;
  }
  return sum;
}

/// Calls f with the storage types of an item.
template <class F>
decltype(auto) with_types(const MuonItem& item, F&& f) {
  return dispatch_floating(item.grad.dtype, "muon_direction", [&]<class G>() {
    if constexpr (std::is_same_v<G, double>) {
      return f.template operator()<double, double, double>();
    } else {
      const bool narrow = item.momentum.dtype == DType::bf16;
      switch (item.out.dtype) {
        case DType::bf16:
          return narrow ? f.template operator()<G, bfloat16, bfloat16>() : f.template operator()<G, float, bfloat16>();
        case DType::f16:
          return narrow ? f.template operator()<G, bfloat16, float16>() : f.template operator()<G, float, float16>();
        default:
          return narrow ? f.template operator()<G, bfloat16, float>() : f.template operator()<G, float, float>();
      }
    }
  });
}

void check_types(const MuonItem& item) {
  const bool wide = item.grad.dtype == DType::f64;
  if (is_floating(item.out.dtype) && wide == (item.out.dtype == DType::f64) &&
      wide == (item.momentum.dtype == DType::f64)) {
    return;
  }
  trinix::detail::fail<DtypeError>("muon_direction",
                                   "a gradient of {} does not go with a momentum of {} and a result "
                                   "of {}",
                                   item.grad.dtype, item.momentum.dtype, item.out.dtype);
}

void muon_direction_forward(const MuonDirection::Forward& args, const Stream&) {
  const double factor = gradient_factor(args.gradient);
  if (std::isnan(factor)) {
    if (args.skipped.defined) ++*args.skipped.as<std::int64_t>();
    return;
  }
  std::vector<MuonFactors> factors;
  for (const MuonRule& rule : args.rules) factors.push_back(muon_factors(rule));
  const MuonFactors* const all = args.factors != nullptr ? args.factors : factors.data();
  for (const MuonItem& item : args.items) check_types(item);

  const Pieces pieces(args.items.size(), [&](std::size_t i) { return args.items[i].grad.count; });
  std::vector<double> sums(static_cast<std::size_t>(pieces.count()));
  std::vector<std::size_t> item_of(sums.size());
  pieces.for_each(4, [&](std::int64_t piece, std::size_t i, std::int64_t begin, std::int64_t end) {
    const MuonItem& item = args.items[i];
    item_of[static_cast<std::size_t>(piece)] = i;
    sums[static_cast<std::size_t>(piece)] = with_types(item, [&]<class G, class M, class O>() {
      return direction<G, M, O>(item, all[item.rule], factor, args.gradient.clip_value, begin, end);
    });
  });
  std::vector<double> squares(args.items.size());
  for (std::size_t piece = 0; piece < sums.size(); ++piece) squares[item_of[piece]] += sums[piece];
  pieces.for_each(2, [&](std::int64_t, std::size_t i, std::int64_t begin, std::int64_t end) {
    const MuonItem& item = args.items[i];
    const MuonFactors& f = all[item.rule];
    const double inverse = 1 / std::max(f.margin * std::sqrt(squares[i]), f.eps);
    dispatch_floating(item.out.dtype, "muon_direction", [&]<class O>() {
      using C = compute_t<O>;
      O* const out = item.out.as<O>();
      const C scale = C(inverse);
#pragma omp simd
      for (std::int64_t k = begin; k < end; ++k) out[k] = O(static_cast<C>(out[k]) * scale);
    });
  });
}

}  // namespace

void register_muon_direction() {
  register_kernel<MuonDirection>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, muon_direction_forward, nullptr});
}

}  // namespace trinix::cpu
