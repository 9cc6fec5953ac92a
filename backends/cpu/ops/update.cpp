#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include <trinix/backends/cpu/pieces.h>
#include <trinix/backends/cpu/random_bits.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/update_rules.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/update.h>

namespace trinix::cpu {

namespace {

/// How a parameter is written.
enum class Rounding : std::uint8_t { nearest, of_master, stochastic };

/// A range of elements and the random numbers for them.
struct Range {
  std::int64_t begin;
  std::int64_t end;
  const std::uint32_t* bits;  // one word for two elements, when rounding stochastically
};

/// P, G, M: storage types of parameter, gradient and first state.
template <UpdateKind kKind, class P, class G, class M, Rounding kRounding>
void update(const UpdateItem& item, const UpdateNumbers<compute_t<P>>& numbers, const Range& range) {
  using C = compute_t<P>;
  constexpr int kStates = states_of(kKind);
  P* __restrict p = item.param.as<P>() + range.begin;
  const G* __restrict g = item.grad.as<G>() + range.begin;
  const auto state = [&]<class T>(std::size_t i) { return item.state[i].as<T>() + range.begin; };
  M* __restrict first = kStates > 0 ? state.template operator()<M>(0) : nullptr;
  C* __restrict second = kStates > 1 ? state.template operator()<C>(1) : nullptr;
  C* __restrict third = kStates > 2 ? state.template operator()<C>(2) : nullptr;
  C* __restrict master = kRounding == Rounding::of_master ? item.master.as<C>() + range.begin : nullptr;
  const std::uint32_t* __restrict bits = range.bits;
  const std::int64_t n = range.end - range.begin;
  // A function of its own: an array that is declared in the loop itself keeps GCC from making vectors of it. Those of
  // mixed types, of which there are many, stay small and scalar.
  const auto one = [&](std::int64_t i) {
    C states[3] = {};
    if constexpr (kStates > 0) states[0] = static_cast<C>(first[i]);
    if constexpr (kStates > 1) states[1] = second[i];
    if constexpr (kStates > 2) states[2] = third[i];
    const C old = kRounding == Rounding::of_master ? master[i] : static_cast<C>(p[i]);
    const C now = updated<kKind, C>(numbers, old, static_cast<C>(g[i]), states);
    if constexpr (kStates > 0) first[i] = M(states[0]);
    if constexpr (kStates > 1) second[i] = states[1];
    if constexpr (kStates > 2) third[i] = states[2];
    if constexpr (kRounding == Rounding::stochastic) {
      p[i] = P::from_bits(stochastic_bf16(now, bits[i / 2] >> (i % 2 * 16)));
    } else {
      if constexpr (kRounding == Rounding::of_master) master[i] = now;
      p[i] = P(now);
    }
  };
  if constexpr (std::is_same_v<P, C> && std::is_same_v<G, C> && std::is_same_v<M, C>) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) one(i);
  } else {
    for (std::int64_t i = 0; i < n; ++i) one(i);
  }
}

/// Tile by tile, so that the random numbers stay in the first-level cache.
template <UpdateKind kKind, class G, class M>
void update_stochastically(const UpdateItem& item, const UpdateFactors& f, const UpdateNumbers<float>& numbers,
                           const Range& range) {
  constexpr std::int64_t kTile = 2048;
  std::uint32_t bits[kTile / 2];
  for (std::int64_t begin = range.begin; begin < range.end; begin += kTile) {
    const std::int64_t end = std::min(begin + kTile, range.end);
    random_bits({f.seed, static_cast<std::uint64_t>(item.random), nullptr}, begin / 2, (end - begin + 1) / 2, bits,
                static_cast<std::uint32_t>(f.step));
    update<kKind, bfloat16, G, M, Rounding::stochastic>(item, numbers, {begin, end, bits});
  }
}

/// Calls f with the storage types of parameter, gradient and first state.
template <class F>
void with_types(const UpdateItem& item, F&& f) {
  dispatch_floating(item.param.dtype, "update", [&]<class P>() {
    using C = compute_t<P>;
    const auto with_first = [&]<class G>() {
      if constexpr (!std::is_same_v<C, double>) {
        if (item.state[0].data != nullptr && item.state[0].dtype == DType::bf16) {
          return f.template operator()<P, G, bfloat16>();
        }
      }
      f.template operator()<P, G, C>();
    };
    if (item.grad.dtype == item.param.dtype) return with_first.template operator()<P>();
    if (item.grad.dtype == compute_type(item.param.dtype)) return with_first.template operator()<C>();
    if constexpr (std::is_same_v<P, float>) {
      if (item.grad.dtype == DType::bf16) return with_first.template operator()<bfloat16>();
    }
    trinix::detail::fail<DtypeError>("update", "a gradient of {} does not fit a parameter of {}", item.grad.dtype,
                                     item.param.dtype);
  });
}

template <UpdateKind kKind>
void update_piece(const UpdateItem& item, const UpdateFactors& f, double factor, double clip_value,
                  const Range& range) {
  with_types(item, [&]<class P, class G, class M>() {
    const UpdateNumbers<compute_t<P>> numbers(f, factor, clip_value);
    if constexpr (std::is_same_v<P, bfloat16>) {
      if (item.stochastic) return update_stochastically<kKind, G, M>(item, f, numbers, range);
    }
    if constexpr (!std::is_same_v<P, compute_t<P>>) {
      if (item.master.data != nullptr) return update<kKind, P, G, M, Rounding::of_master>(item, numbers, range);
    }
    update<kKind, P, G, M, Rounding::nearest>(item, numbers, range);
  });
}

template <class F>
void with_kind(UpdateKind kind, F&& f) {
  switch (kind) {
    case UpdateKind::adam:
      return f.template operator()<UpdateKind::adam>();
    case UpdateKind::amsgrad:
      return f.template operator()<UpdateKind::amsgrad>();
    case UpdateKind::lion:
      return f.template operator()<UpdateKind::lion>();
    case UpdateKind::momentum:
      return f.template operator()<UpdateKind::momentum>();
    case UpdateKind::plain:
      return f.template operator()<UpdateKind::plain>();
  }
}

void update_forward(const Update::Forward& args, const Stream&) {
  const double factor = gradient_factor(args.gradient);
  if (std::isnan(factor)) {
    if (args.skipped.defined) ++*args.skipped.as<std::int64_t>();
    return;
  }
  std::vector<UpdateFactors> factors;
  factors.reserve(args.rules.size());
  for (const UpdateRule& rule : args.rules) factors.push_back(update_factors(args.kind, rule));
  const UpdateFactors* const all = args.factors != nullptr ? args.factors : factors.data();
  for (const UpdateItem& item : args.items) with_types(item, []<class P, class G, class M>() {});

  const Pieces pieces(args.items.size(), [&](std::size_t i) { return args.items[i].param.count; });
  with_kind(args.kind, [&]<UpdateKind kKind>() {
    pieces.for_each(4, [&](std::int64_t, std::size_t i, std::int64_t begin, std::int64_t end) {
      const UpdateItem& item = args.items[i];
      update_piece<kKind>(item, all[item.rule], factor, args.gradient.clip_value, {begin, end, nullptr});
    });
  });
}

}  // namespace

void register_update() {
  register_kernel<Update>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, update_forward, nullptr});
}

}  // namespace trinix::cpu
