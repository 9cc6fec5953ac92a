#include <algorithm>
#include <vector>

#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/gradient_arguments.h>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/scratch.h>
#include <trinix/backends/cuda/table.h>
#include <trinix/core/ops/muon_direction.h>

namespace trinix::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kChunk = 8192;  // elements of one block

/// A piece of one matrix.
struct DirectionRow {
  const void* grad;
  void* momentum;
  void* out;
  std::int32_t count;
  std::int32_t rule;
  std::int32_t first;  // the matrix's rows are [first, first + rows)
  std::int32_t rows;
  bool vectors;  // all addresses allow vector access
};

/// kVector elements, between their load and their store.
template <class G, class M, class O, int kVector>
__device__ double advance(const DirectionRow& row, std::int64_t at, const MuonFactors& f, double factor,
                          double clip_value) {
  using C = compute_t<G>;
  const auto grads = load_streaming<kVector>(static_cast<const G*>(row.grad) + at);
  auto means = load_streaming<kVector>(static_cast<M*>(row.momentum) + at);
  const C scale = static_cast<C>(f.sign * factor);
  const C bound = static_cast<C>(clip_value);
  Vector<O, kVector> out;
  double sum = 0;
#pragma unroll
  for (int k = 0; k < kVector; ++k) {
    const C scaled = static_cast<C>(widen(grads.at[k])) * scale;
    const C below = scaled > bound ? bound : scaled;
    const C grad = below < -bound ? -bound : below;
    const C old = static_cast<C>(widen(means.at[k]));
    const C mean = fma(static_cast<C>(f.gain), grad - old, old);
    means.at[k] = narrow_to<M>(mean);
    out.at[k] = narrow_to<O>(fma(static_cast<C>(f.of_mean), mean, static_cast<C>(f.of_grad) * grad));
    const auto value = static_cast<double>(widen(out.at[k]));
    sum += value * value;
  }
  store_streaming(static_cast<M*>(row.momentum) + at, means);
  store_vector(static_cast<O*>(row.out) + at, out);
  return sum;
}

/// Momentum and direction, and the sum of squares of each row. Floor per element in f32: 4 bytes of gradient, 8 of
/// momentum, 2 of direction.
template <class G, class M, class O>
__global__ void __launch_bounds__(kThreads)
    direction_kernel(const DirectionRow* rows, const MuonFactors* factors, GradientArguments gradient,
                     long long* skipped, double* squares) {
  __shared__ double shared[kThreads / kWarp];
  const double factor = gradient.factor();
  if (isnan(factor)) {
    if (blockIdx.x == 0 && threadIdx.x == 0 && skipped != nullptr) ++*skipped;
    return;
  }
  constexpr int kVector = kPerAccess<compute_t<G>>;
  const DirectionRow row = rows[blockIdx.x];
  const MuonFactors f = factors[row.rule];
  const int vectors = row.vectors ? row.count / kVector : 0;
  double sum = 0;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += kThreads) {
    sum += advance<G, M, O, kVector>(row, std::int64_t{i} * kVector, f, factor, gradient.clip_value);
  }
  for (int i = vectors * kVector + static_cast<int>(threadIdx.x); i < row.count; i += kThreads) {
    sum += advance<G, M, O, 1>(row, i, f, factor, gradient.clip_value);
  }
  sum = block_combine<kThreads>(sum, Plus(), shared);
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

/// Brings each matrix to norm 1. What the kernel before has written is mostly still in the cache.
template <class O>
__global__ void __launch_bounds__(kThreads) normalise_kernel(const DirectionRow* rows, const MuonFactors* factors,
                                                             GradientArguments gradient, const double* squares) {
  __shared__ double shared[kThreads / kWarp];
  if (isnan(gradient.factor())) return;
  const DirectionRow row = rows[blockIdx.x];
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < row.rows; i += kThreads) sum += squares[row.first + i];
  sum = block_combine<kThreads>(sum, Plus(), shared);
  const MuonFactors& f = factors[row.rule];
  using C = compute_t<O>;
  const C inverse = static_cast<C>(1 / fmax(f.margin * sqrt(sum), f.eps));
  constexpr int kVector = kPerAccess<O>;
  O* const out = static_cast<O*>(row.out);
  const int vectors = row.vectors ? row.count / kVector : 0;
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += kThreads) {
    auto v = load_vector<kVector>(out + std::int64_t{i} * kVector);
#pragma unroll
    for (int k = 0; k < kVector; ++k) v.at[k] = narrow_to<O>(static_cast<C>(widen(v.at[k])) * inverse);
    store_vector(out + std::int64_t{i} * kVector, v);
  }
  for (int i = vectors * kVector + static_cast<int>(threadIdx.x); i < row.count; i += kThreads) {
    out[i] = narrow_to<O>(static_cast<C>(widen(out[i])) * inverse);
  }
}

TableContents make_table(std::span<const MuonItem> items) {
  std::vector<DirectionRow> rows;
  for (const MuonItem& item : items) {
    const auto first = static_cast<std::int32_t>(rows.size());
    const auto count = static_cast<std::int32_t>(ceil_div(item.grad.count, kChunk));
    for (std::int64_t begin = 0; begin < item.grad.count; begin += kChunk) {
      const auto at = [begin](const Flat& t) {
        return t.as<char>() + begin * static_cast<std::int64_t>(size_of(t.dtype));
      };
      DirectionRow row{.grad = at(item.grad),
                       .momentum = at(item.momentum),
                       .out = at(item.out),
                       .count = static_cast<std::int32_t>(std::min(kChunk, item.grad.count - begin)),
                       .rule = item.rule,
                       .first = first,
                       .rows = count,
                       .vectors = false};
      const void* addresses[] = {row.grad, row.momentum, row.out};
      row.vectors =
          std::ranges::all_of(addresses, [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; });
      rows.push_back(row);
    }
  }
  return {table_bytes(rows), static_cast<std::int64_t>(rows.size()), 0};
}

struct Types {
  DType grad, momentum, out;
  friend bool operator==(const Types&, const Types&) = default;
};

Types types_of(const MuonItem& item) { return {item.grad.dtype, item.momentum.dtype, item.out.dtype}; }

/// Calls f with the storage types, or returns false when there is no such kernel.
template <class F>
bool with_types(const Types& t, F&& f) {
  const auto with_momentum = [&]<class G, class O>() {
    if (t.momentum == DType::f32) {
      f.template operator()<G, float, O>();
    } else if (t.momentum == DType::bf16) {
      f.template operator()<G, bfloat16, O>();
    } else {
      return false;
    }
    return true;
  };
  if (t == Types{DType::f64, DType::f64, DType::f64}) {
    f.template operator()<double, double, double>();
    return true;
  }
  if (t.grad == DType::f32 && t.out == DType::bf16) return with_momentum.template operator()<float, bfloat16>();
  if (t.grad == DType::bf16 && t.out == DType::bf16) return with_momentum.template operator()<bfloat16, bfloat16>();
  if (t.grad == DType::f16 && t.out == DType::f16) return with_momentum.template operator()<float16, float16>();
  return false;
}

const char* why_not(const MuonDirection::Forward& args, bool) {
  if (args.items.empty()) return nullptr;
  const Types types = types_of(args.items.front());
  for (const MuonItem& item : args.items) {
    if (types_of(item) != types) return "takes tensors of the same dtypes in one call";
  }
  const bool known = with_types(types, [&]<class G, class M, class O>() {});
  return known ? nullptr : "takes results in f64 for f64, f16 for f16 and bf16 for f32 and bf16 gradients only";
}

void muon_direction_forward(const MuonDirection::Forward& args, const Stream& stream) {
  static TableCache<MuonItem> tables;
  const TableView table = tables.find(args.items, stream, make_table);
  if (table.rows == 0) return;
  Backend& backend = backend_of(stream.device);
  const MuonFactors* factors = args.factors;
  const std::size_t bytes = args.rules.size() * sizeof(MuonFactors);
  const Scratch temporary(factors == nullptr && Capture::current() == nullptr ? bytes : 0, stream);
  if (factors == nullptr) {
    std::vector<MuonFactors> values;
    for (const MuonRule& rule : args.rules) values.push_back(muon_factors(rule));
    if (Capture* const capture = Capture::current()) {
      factors = static_cast<const MuonFactors*>(capture->upload(values.data(), bytes));
    } else {
      backend.write(temporary.as<void>(), values.data(), bytes, stream);
      factors = temporary.as<const MuonFactors>();
    }
  }
  const Scratch squares(static_cast<std::size_t>(table.rows) * sizeof(double), stream);
  const auto* const rows = static_cast<const DirectionRow*>(table.data);
  const GradientArguments gradient(args.gradient);
  long long* const skipped = args.skipped.defined ? args.skipped.as<long long>() : nullptr;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(table.rows)), .block = dim3(kThreads)};
  with_types(types_of(args.items.front()), [&]<class G, class M, class O>() {
    launch("muon_direction", direction_kernel<G, M, O>, shape, stream, rows, factors, gradient, skipped,
           squares.as<double>());
    launch("muon_direction", normalise_kernel<O>, shape, stream, rows, factors, gradient, squares.as<const double>());
  });
}

}  // namespace

void register_muon_direction() {
  register_kernel<MuonDirection>(
      {"cuda", Kernel::fused, DeviceType::cuda, 0, why_not, muon_direction_forward, nullptr});
}

}  // namespace trinix::cuda
