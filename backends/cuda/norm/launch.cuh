#pragma once

#include <optional>

#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/norm/any_row.cuh>
#include <trinix/backends/cuda/norm/forward.cuh>
#include <trinix/backends/cuda/norm/norm.h>
#include <trinix/backends/cuda/properties.h>
#include <trinix/backends/cuda/scratch.h>

/// @file
/// Which kernel of normalisation runs, and its launch. Rows that are aligned and not too long are held; all others, f64
/// and activations take the kernels for any row.

namespace trinix::cuda {

namespace internal {

inline bool aligned16(std::initializer_list<const View*> views) {
  for (const View* v : views) {
    if (v->defined && reinterpret_cast<std::uintptr_t>(v->data) % 16 != 0) return false;
  }
  return true;
}

/// Calls f with the number of elements per access that addresses and row length allow.
template <class T, class F>
void with_width(bool aligned, std::int64_t columns, F f) {
  constexpr int kWide = sizeof(T) == 8 ? 1 : kPerAccess<T>;  // f64 is for checking: one width will do
  if constexpr (kWide > 1) {
    if (aligned && columns % kWide == 0) return f.template operator()<kWide>();
  }
  f.template operator()<1>();
}

inline unsigned grid_of(std::int64_t blocks) { return static_cast<unsigned>(blocks); }

/// A backward, and the memory and shapes of the sums over its rows.
template <class T>
class NormSums {
 public:
  using C = compute_t<T>;

  /// `partial_rows`: how many rows of sums the kernel will leave.
  NormSums(const NormBackward& args, std::int64_t partial_rows, const Stream& stream)
      : args_(args),
        stream_(stream),
        partial_rows_(partial_rows),
        dweight_(bytes(args.dweight), stream),
        dbias_(bytes(args.dbias), stream) {}

  [[nodiscard]] NormBackwardData<T> data() const {
    const NormBackward& a = args_;
    return {a.s.as<T>(),
            a.weight.as<T>(),
            a.bias.as<T>(),
            a.mean.as<C>(),
            a.rstd.as<C>(),
            a.dsum.as<T>(),
            a.dy.as<T>(),
            a.dx.as<T>(),
            a.dbranch.as<T>(),
            dweight_.template as<C>(),
            dbias_.template as<C>(),
            a.s.size(0),
            a.s.size(1),
            BranchMask<C>(a.random, a.dropout)};
  }

  /// Queues the addition of the partial rows.
  void add_up() const {
    const NormBackward& a = args_;
    if (!a.dweight.defined && !a.dbias.defined) return;
    const auto of = [](const View& gradient, const Scratch& partial, bool accumulate) {
      return NormGradient<T>{partial.as<C>(), gradient.as<T>(), gradient.defined ? gradient.stride(0) : 0, accumulate};
    };
    const NormGradients<T> gradients{of(a.dweight, dweight_, a.accumulate_dweight),
                                     of(a.dbias, dbias_, a.accumulate_dbias), partial_rows_, a.s.size(1)};
    const auto run = [&]<int kWidth>() {
      launch("norm", norm_gradients_kernel<kWidth, T>,
             {.grid = dim3(grid_of(ceil_div(a.s.size(1), kWarp * kWidth)), a.dbias.defined ? 2 : 1),
              .block = dim3(kWarp, kPartialWarps),
              .early = true},
             stream_, gradients);
    };
    constexpr int kWide = kPerAccess<C>;
    a.s.size(1) % kWide == 0 ? run.template operator()<kWide>() : run.template operator()<1>();
  }

 private:
  [[nodiscard]] std::size_t bytes(const View& gradient) const {
    return gradient.defined ? static_cast<std::size_t>(partial_rows_ * args_.s.size(1)) * sizeof(C) : 0;
  }

  const NormBackward& args_;
  const Stream& stream_;
  std::int64_t partial_rows_;
  Scratch dweight_;
  Scratch dbias_;
};

template <bool kCentred, class T>
void forward_held(const NormForwardData<T>& p, const Stream& stream) {
  with_forward_shape(p.columns, [&](auto tag) {
    using S = typename decltype(tag)::template For<T>;
    const auto run = [&]<NormBranch kBranch>() {
      launch("norm", norm_forward_kernel<kCentred, kBranch, S, T>,
             {.grid = dim3(grid_of(ceil_div(p.rows, S::kGroups * kRowsAtOnce<S>))),
              .block = dim3(S::kThreads, S::kGroups),
              .early = true},
             stream, p);
    };
    if (p.branch == nullptr) return run.template operator()<NormBranch::none>();
    p.mask.on ? run.template operator()<NormBranch::dropped>() : run.template operator()<NormBranch::whole>();
  });
}

template <bool kCentred, class T, class A>
void forward_any(const NormForwardData<T>& p, const A& activation, bool aligned, const Stream& stream) {
  with_width<T>(aligned, p.columns, [&]<int kWidth>() {
    launch("norm", any_norm_forward_kernel<kCentred, kWidth, A, T>,
           {.grid = dim3(grid_of(p.rows)), .block = dim3(kAnyThreads)}, stream, p, activation);
  });
}

/// False, with nothing done, when not even one stage of rows fits in the card's shared memory.
template <bool kCentred, class T>
bool backward_held(const NormBackward& args, const Stream& stream) {
  const std::int64_t rows = args.s.size(0);
  const std::size_t tensors = args.dsum.defined ? 3 : 2;
  bool done = false;
  with_backward_shape<kCentred>(args.s.size(1), [&](auto tag) {
    using S = typename decltype(tag)::template For<T>;
    constexpr int kBlocksPerMultiprocessor = kBackwardBlocks<S>;
    // Of a block: static variables, and what the driver takes.
    constexpr std::size_t kReserved = 2048 + std::size_t{kWeightBytes<kCentred, S, T>};
    const std::size_t available = static_cast<std::size_t>(shared_limit(stream.device)) / kBlocksPerMultiprocessor;
    const std::size_t stage = tensors * kStageBytes<S>;
    if (available < stage + kReserved) return;
    // Enough stages for kBytesAhead besides the one in work; more would only take the weights' place in L1.
    const std::size_t wanted = 1 + static_cast<std::size_t>(ceil_div(kBytesAhead / kBlocksPerMultiprocessor,
                                                                     static_cast<std::int64_t>(stage)));
    const int stages = static_cast<int>(std::min({(available - kReserved) / stage, wanted, std::size_t{kMostStages}}));
    const std::int64_t blocks = std::min<std::int64_t>(
        ceil_div(rows, S::kGroups), std::int64_t{kBlocksPerMultiprocessor} * multiprocessors(stream));
    const NormSums<T> sums(args, blocks, stream);
    launch("norm", norm_backward_kernel<kCentred, S, T>,
           {.grid = dim3(grid_of(blocks)),
            .block = dim3(S::kThreads, S::kGroups),
            .shared_bytes = static_cast<std::size_t>(stages) * stage + std::size_t{kWeightBytes<kCentred, S, T>},
            .early = true},
           stream, sums.data(), stages);
    sums.add_up();
    done = true;
  });
  return done;
}

template <bool kCentred, class T, class A>
void backward_any(const NormBackward& args, const A& activation, bool aligned, const Stream& stream) {
  using Means = GradientSums<true, compute_t<T>>;
  const std::int64_t rows = args.s.size(0);
  const std::int64_t columns = args.s.size(1);
  with_width<T>(aligned, columns, [&]<int kWidth>() {
    const std::int64_t slabs = ceil_div(columns, kAnyThreads * kWidth);
    const std::int64_t wanted = multiprocessors(stream) * std::int64_t{8};
    // Every partial row costs as much as half a row of f32: eight rows or more for each.
    const std::int64_t chunks = std::clamp<std::int64_t>(std::min(wanted / slabs, rows / 8), 1, 1024);
    const Scratch means(static_cast<std::size_t>(rows) * sizeof(Means), stream);
    const NormSums<T> sums(args, chunks, stream);
    launch("norm", any_norm_row_sums_kernel<kCentred, kWidth, A, T>,
           {.grid = dim3(grid_of(rows)), .block = dim3(kAnyThreads)}, stream, sums.data(), activation,
           means.template as<Means>());
    launch("norm", any_norm_backward_kernel<kCentred, kWidth, A, T>,
           {.grid = dim3(grid_of(chunks), grid_of(slabs)), .block = dim3(kAnyThreads)}, stream, sums.data(), activation,
           static_cast<const Means*>(means.template as<Means>()));
    sums.add_up();
  });
}

template <class T>
Activated<T> activated(Activation a) {
  return {a, saved_by(unary_of(a)) == UnarySaved::y};
}

/// Whether rows of this kind go to the kernels that hold them.
template <class T>
bool can_hold(bool aligned, std::int64_t columns) {
  return aligned && columns % kPerAccess<T> == 0 && columns <= kLongestHeldRow;
}

}  // namespace internal

template <class T>
void norm_forward_as(NormKind kind, const NormForward& a, const Stream& stream) {
  using namespace internal;
  using C = compute_t<T>;
  const NormForwardData<T> p{a.x.as<T>(),    a.branch.as<T>(),      a.weight.as<T>(),
                             a.bias.as<T>(), a.sum.as<T>(),         a.y.as<T>(),
                             a.mean.as<C>(), a.rstd.as<C>(),        a.x.size(0),
                             a.x.size(1),    static_cast<C>(a.eps), BranchMask<C>(a.random, a.dropout)};
  const bool aligned = aligned16({&a.x, &a.branch, &a.weight, &a.bias, &a.sum, &a.y});
  if (kind == NormKind::rms_activation) {
    return forward_any<false>(p, activated<T>(a.activation), aligned, stream);
  }
  if constexpr (sizeof(T) < 8) {
    if (can_hold<T>(aligned, p.columns)) {
      return kind == NormKind::layer ? forward_held<true>(p, stream) : forward_held<false>(p, stream);
    }
  }
  kind == NormKind::layer ? forward_any<true>(p, Plain(), aligned, stream)
                          : forward_any<false>(p, Plain(), aligned, stream);
}

template <class T>
void norm_backward_as(NormKind kind, const NormBackward& a, const Stream& stream) {
  using namespace internal;
  const bool aligned = aligned16({&a.s, &a.weight, &a.bias, &a.dsum, &a.dy, &a.dx, &a.dbranch});
  if (kind == NormKind::rms_activation) {
    return backward_any<false, T>(a, activated<T>(a.activation), aligned, stream);
  }
  if constexpr (sizeof(T) < 8) {
    // The held RMS kernel has no registers to spare for the rare gradient of its bias.
    if (can_hold<T>(aligned, a.s.size(1)) && (kind == NormKind::layer || !a.dbias.defined)) {
      if (kind == NormKind::layer ? backward_held<true, T>(a, stream) : backward_held<false, T>(a, stream)) return;
    }
  }
  kind == NormKind::layer ? backward_any<true, T>(a, Plain(), aligned, stream)
                          : backward_any<false, T>(a, Plain(), aligned, stream);
}

}  // namespace trinix::cuda
