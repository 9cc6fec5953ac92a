#pragma once

#include <new>
#include <type_traits>

#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/update/update.h>
#include <trinix/backends/update_rules.h>
#include <trinix/core/philox.h>

/// @file
/// One kernel for all elementwise optimizers.

namespace trinix::cuda {

/// How a parameter is written.
enum class Rounding : std::uint8_t { nearest, of_master, stochastic };

/// 16 random bits for each of four elements, two in a word; unused unless rounding stochastically.
struct RoundingBits {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __device__ std::uint32_t of(int k) const { return (k < 2 ? low : high) >> (k % 2 * 16); }
};

/// kVector elements of one tensor, between their load and their store. P, G, M: storage types of parameter, gradient
/// and first state. What the next kernel does not read is loaded and stored with a hint to leave the cache first.
template <UpdateKind kKind, class P, class G, class M, Rounding kRounding, int kVector>
struct UpdatePiece {
  using C = compute_t<P>;
  static constexpr int kStates = states_of(kKind);
  static constexpr bool kMaster = kRounding == Rounding::of_master;

  Vector<P, kVector> param;
  Vector<G, kVector> grad;
  Vector<M, kVector> first;
  Vector<C, kVector> second, third, master;

  __device__ void load(const UpdateRow& row, std::int64_t at) {
    grad = load_streaming<kVector>(static_cast<const G*>(row.grad) + at);
    if constexpr (kStates > 0) first = load_streaming<kVector>(static_cast<const M*>(row.state[0]) + at);
    if constexpr (kStates > 1) second = load_streaming<kVector>(static_cast<const C*>(row.state[1]) + at);
    if constexpr (kStates > 2) third = load_streaming<kVector>(static_cast<const C*>(row.state[2]) + at);
    if constexpr (kMaster) {
      master = load_streaming<kVector>(static_cast<const C*>(row.master) + at);
    } else {
      param = load_vector<kVector>(static_cast<const P*>(row.param) + at);
    }
  }

  __device__ void update(const UpdateNumbers<C>& numbers, RoundingBits random) {
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      C states[3] = {};
      if constexpr (kStates > 0) states[0] = static_cast<C>(widen(first.at[k]));
      if constexpr (kStates > 1) states[1] = second.at[k];
      if constexpr (kStates > 2) states[2] = third.at[k];
      const C old = kMaster ? master.at[k] : static_cast<C>(widen(param.at[k]));
      const C now = updated<kKind, C>(numbers, old, static_cast<C>(widen(grad.at[k])), states);
      if constexpr (kStates > 0) first.at[k] = narrow_to<M>(states[0]);
      if constexpr (kStates > 1) second.at[k] = states[1];
      if constexpr (kStates > 2) third.at[k] = states[2];
      if constexpr (kMaster) master.at[k] = now;
      if constexpr (kRounding == Rounding::stochastic) {
        param.at[k] = P::from_bits(stochastic_bf16(now, random.of(k)));
      } else {
        param.at[k] = narrow_to<P>(now);
      }
    }
  }

  __device__ void store(const UpdateRow& row, std::int64_t at) const {
    store_vector(static_cast<P*>(row.param) + at, param);
    if constexpr (kStates > 0) store_streaming(static_cast<M*>(row.state[0]) + at, first);
    if constexpr (kStates > 1) store_streaming(static_cast<C*>(row.state[1]) + at, second);
    if constexpr (kStates > 2) store_streaming(static_cast<C*>(row.state[2]) + at, third);
    if constexpr (kMaster) store_streaming(static_cast<C*>(row.master) + at, master);
  }
};

/// For elements 4 i .. 4 i + 3 of a row: half a block of random numbers.
__device__ inline RoundingBits rounding_bits(const UpdateRow& row, const UpdateFactors& f, int i) {
  const PhiloxBlock block =
      philox(f.seed, static_cast<std::uint64_t>(row.random + i / 2), static_cast<std::uint32_t>(f.step));
  return i % 2 == 0 ? RoundingBits{block.x[0], block.x[1]} : RoundingBits{block.x[2], block.x[3]};
}

/// The elements of a row, shared out to `stride` threads, vector by vector. The last few that make up no whole vector
/// go to one thread while the others do theirs.
template <UpdateKind kKind, class P, class G, class M, Rounding kRounding>
__device__ void update_row(const UpdateRow& row, const UpdateFactors& f, const UpdateNumbers<compute_t<P>>& numbers,
                           int index, int stride) {
  using C = compute_t<P>;
  constexpr int kVector = kPerAccess<C>;
  const int whole = row.vectors ? row.count / kVector : 0;
  const int all = (row.count + kVector - 1) / kVector;
  for (int i = index; i < all; i += stride) {
    RoundingBits random;
    if constexpr (kRounding == Rounding::stochastic) {
      static_assert(kVector == 4);
      random = rounding_bits(row, f, i);
    }
    if (i < whole) {
      UpdatePiece<kKind, P, G, M, kRounding, kVector> piece;
      piece.load(row, std::int64_t{i} * kVector);
      piece.update(numbers, random);
      piece.store(row, std::int64_t{i} * kVector);
      continue;
    }
#pragma unroll 1
    for (int k = 0; k < kVector && i * kVector + k < row.count; ++k) {
      UpdatePiece<kKind, P, G, M, kRounding, 1> piece;
      piece.load(row, std::int64_t{i} * kVector + k);
      piece.update(numbers, {random.of(k)});
      piece.store(row, std::int64_t{i} * kVector + k);
    }
  }
}

template <UpdateKind kKind, bool kWide, class M, class C>
__device__ void update_row_of(const UpdateRow& row, const UpdateFactors& f, const UpdateNumbers<C>& numbers, int index,
                              int stride) {
  const auto run = [&]<class P, class G, Rounding kRounding>() {
    update_row<kKind, P, G, M, kRounding>(row, f, numbers, index, stride);
  };
  if constexpr (kWide) {
    run.template operator()<double, double, Rounding::nearest>();
  } else {
    switch (row.types) {
      case UpdateTypes::f32:
        return run.template operator()<float, float, Rounding::nearest>();
      case UpdateTypes::f32_narrow:
        return run.template operator()<float, bfloat16, Rounding::nearest>();
      case UpdateTypes::bf16:
        return run.template operator()<bfloat16, bfloat16, Rounding::nearest>();
      case UpdateTypes::bf16_master:
        return run.template operator()<bfloat16, bfloat16, Rounding::of_master>();
      case UpdateTypes::bf16_stochastic:
        return run.template operator()<bfloat16, bfloat16, Rounding::stochastic>();
      case UpdateTypes::bf16_wide:
        return run.template operator()<bfloat16, float, Rounding::nearest>();
      case UpdateTypes::bf16_wide_master:
        return run.template operator()<bfloat16, float, Rounding::of_master>();
      case UpdateTypes::bf16_wide_stochastic:
        return run.template operator()<bfloat16, float, Rounding::stochastic>();
      case UpdateTypes::f16:
        return run.template operator()<float16, float16, Rounding::nearest>();
      case UpdateTypes::f16_master:
        return run.template operator()<float16, float16, Rounding::of_master>();
      case UpdateTypes::f16_wide:
        return run.template operator()<float16, float, Rounding::nearest>();
      case UpdateTypes::f16_wide_master:
        return run.template operator()<float16, float, Rounding::of_master>();
      default:
        return;  // f64 has a kernel of its own
    }
  }
}

/// A block works on one long row with all its threads, or on several short ones warp by warp. Floor per parameter, for
/// AdamW with a 16-bit gradient and a master copy: 2 bytes of gradient, 8 + 8 + 8 of moments and master read and
/// written, 2 of parameter written: 28 bytes; all in f32, 28 too.
template <UpdateKind kKind, bool kWide, class M>
__global__ void __launch_bounds__(kUpdateThreads, update_blocks(kKind, kWide))
    update_kernel(UpdateTable table, const UpdateFactors* factors, GradientArguments gradient, long long* skipped) {
  const double factor = gradient.factor();
  if (isnan(factor)) {
    if (blockIdx.x == 0 && threadIdx.x == 0 && skipped != nullptr) ++*skipped;
    return;
  }
  int first = static_cast<int>(blockIdx.x);
  int last = first + 1;
  if (table.first_row != nullptr) {
    first = table.first_row[blockIdx.x];
    last = table.first_row[blockIdx.x + 1];
  }
  // In shared memory, not in the registers of every thread, of which the loads want all that there are.
  using C = std::conditional_t<kWide, double, float>;
  __shared__ alignas(UpdateNumbers<C>) unsigned char shared[kUpdateThreads / kWarp][sizeof(UpdateNumbers<C>)];
  const bool together = last - first == 1;
  const int thread = static_cast<int>(threadIdx.x);
  const int index = together ? thread : thread % kWarp;
  const int stride = together ? kUpdateThreads : kWarp;
  for (int r = together ? first : first + thread / kWarp; r < last; r += kUpdateThreads / kWarp) {
    const UpdateRow row = table.rows[r];
    const UpdateFactors& f = factors[row.rule];
    auto* const numbers = reinterpret_cast<UpdateNumbers<C>*>(shared[thread / kWarp]);
    __syncwarp();
    if (thread % kWarp == 0) new (numbers) UpdateNumbers<C>(f, factor, gradient.clip_value);
    __syncwarp();
    update_row_of<kKind, kWide, M>(row, f, *numbers, index, stride);
  }
}

template <UpdateKind kKind>
void launch_update(const UpdateTable& table, const UpdateArguments& args, const Stream& stream) {
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(table.blocks)), .block = dim3(kUpdateThreads)};
  const auto run = [&]<bool kWide, class M>() {
    launch("update", update_kernel<kKind, kWide, M>, shape, stream, table, args.factors, args.gradient, args.skipped);
  };
  if (args.wide) return run.template operator()<true, double>();
  if constexpr (states_of(kKind) > 0) {
    if (args.bf16_first) return run.template operator()<false, bfloat16>();
  }
  run.template operator()<false, float>();
}

}  // namespace trinix::cuda
