#include <cmath>

#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/table.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/adamw.h>

namespace trinix::cuda {

namespace {

constexpr int kThreads = 256;
/// Elements of one block: half a megabyte of traffic, so that its start does not show, and for a model of 124 M
/// parameters more than ten blocks for each place on the card, so that its end is even.
constexpr std::int64_t kChunk = 16384;
constexpr int kUnroll = 2;  // independent sets of loads in flight per thread

/// Types of a tensor: parameter, gradient, and whether there is a master copy.
enum class Kind : std::uint8_t {
  f64,
  f32,
  bf16,
  bf16_master,
  bf16_wide,  // f32 gradient
  bf16_wide_master,
  f16,
  f16_master,
  f16_wide,
  f16_wide_master,
};

struct AdamWChunk {
  void* param;
  const void* grad;
  void* mean;
  void* square;
  void* master;
  std::int32_t count;
  std::int32_t rule;
  Kind kind;
  bool vectors;  // all addresses allow vector access
};

__device__ float rounded_product(float a, float b) { return __fmul_rn(a, b); }
__device__ double rounded_product(double a, double b) { return __dmul_rn(a, b); }

/// AdamWFactors in the type of the arithmetic.
template <class C>
struct Numbers {
  C decay, scale, one_less_beta1, beta2, one_less_beta2, step_size, root_scale, eps;

  __device__ Numbers(const AdamWFactors& f, double grad_scale)
      : decay(static_cast<C>(f.decay)),
        scale(static_cast<C>(f.sign * grad_scale)),
        one_less_beta1(static_cast<C>(f.one_less_beta1)),
        beta2(static_cast<C>(f.beta2)),
        one_less_beta2(static_cast<C>(f.one_less_beta2)),
        step_size(static_cast<C>(f.step_size)),
        root_scale(static_cast<C>(f.root_scale)),
        eps(static_cast<C>(f.eps)) {}

  /// The parameter after the update; advances the moments. Where multiplication and addition are joined is written out:
  /// left to the compiler it differs between vectors and single elements, and so would the bits.
  __device__ C step(C param, C raw_grad, C& mean, C& square) const {
    const C grad = rounded_product(raw_grad, scale);
    mean = fma(one_less_beta1, grad - mean, mean);
    square = fma(rounded_product(one_less_beta2, grad), grad, rounded_product(beta2, square));
    const C change = rounded_product(step_size, mean) / fma(sqrt(square), root_scale, eps);
    return fma(param, decay, -change);
  }
};

/// kVector elements of one tensor, between their load and their store.
template <class P, class G, bool kMaster, int kVector>
struct Piece {
  using C = compute_t<P>;
  Vector<P, kVector> param;
  Vector<G, kVector> grad;
  Vector<C, kVector> mean, square, master;

  __device__ void load(const AdamWChunk& c, std::int64_t at) {
    grad = load_vector<kVector>(static_cast<const G*>(c.grad) + at);
    mean = load_vector<kVector>(static_cast<const C*>(c.mean) + at);
    square = load_vector<kVector>(static_cast<const C*>(c.square) + at);
    if constexpr (kMaster) {
      master = load_vector<kVector>(static_cast<const C*>(c.master) + at);
    } else {
      param = load_vector<kVector>(static_cast<const P*>(c.param) + at);
    }
  }

  __device__ void update(const Numbers<C>& numbers) {
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      const C old = kMaster ? master.at[k] : static_cast<C>(widen(param.at[k]));
      const C now = numbers.step(old, static_cast<C>(widen(grad.at[k])), mean.at[k], square.at[k]);
      if constexpr (kMaster) master.at[k] = now;
      param.at[k] = narrow_to<P>(now);
    }
  }

  __device__ void store(const AdamWChunk& c, std::int64_t at) const {
    store_vector(static_cast<P*>(c.param) + at, param);
    store_vector(static_cast<C*>(c.mean) + at, mean);
    store_vector(static_cast<C*>(c.square) + at, square);
    if constexpr (kMaster) store_vector(static_cast<C*>(c.master) + at, master);
  }
};

template <class P, class G, bool kMaster>
__device__ void update_chunk(const AdamWChunk& chunk, const AdamWFactors& factors, double grad_scale) {
  using C = compute_t<P>;
  constexpr int kVector = kPerAccess<C>;
  const Numbers<C> numbers(factors, grad_scale);
  const int vectors = chunk.vectors ? chunk.count / kVector : 0;
  for (int first = static_cast<int>(threadIdx.x); first < vectors; first += kThreads * kUnroll) {
    Piece<P, G, kMaster, kVector> pieces[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = first + u * kThreads;
      if (i < vectors) pieces[u].load(chunk, static_cast<std::int64_t>(i) * kVector);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = first + u * kThreads;
      if (i >= vectors) break;
      pieces[u].update(numbers);
      pieces[u].store(chunk, static_cast<std::int64_t>(i) * kVector);
    }
  }
  for (int i = vectors * kVector + static_cast<int>(threadIdx.x); i < chunk.count; i += kThreads) {
    Piece<P, G, kMaster, 1> piece;
    piece.load(chunk, i);
    piece.update(numbers);
    piece.store(chunk, i);
  }
}

/// What the launch takes besides the table.
struct Clipping {
  const double* norm;  // null: none
  double max_norm;
  double grad_scale;
  long long* skipped;
};

/// One block per chunk of a tensor. Floor per parameter, with a 16-bit gradient and a master copy: 2 bytes of gradient,
/// 8 + 8 + 8 of moments and master read and written, 2 of parameter written: 28 bytes.
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const AdamWChunk* chunks, const AdamWFactors* factors, Clipping clipping) {
  const AdamWChunk chunk = chunks[blockIdx.x];
  double grad_scale = clipping.grad_scale;
  if (clipping.norm != nullptr) {
    const double norm = *clipping.norm;
    if (!isfinite(norm)) {
      if (blockIdx.x == 0 && threadIdx.x == 0 && clipping.skipped != nullptr) ++*clipping.skipped;
      return;
    }
    grad_scale *= adamw_clip(norm, clipping.grad_scale, clipping.max_norm);
  }
  const AdamWFactors& f = factors[chunk.rule];
  switch (chunk.kind) {
    case Kind::f64:
      return update_chunk<double, double, false>(chunk, f, grad_scale);
    case Kind::f32:
      return update_chunk<float, float, false>(chunk, f, grad_scale);
    case Kind::bf16:
      return update_chunk<bfloat16, bfloat16, false>(chunk, f, grad_scale);
    case Kind::bf16_master:
      return update_chunk<bfloat16, bfloat16, true>(chunk, f, grad_scale);
    case Kind::bf16_wide:
      return update_chunk<bfloat16, float, false>(chunk, f, grad_scale);
    case Kind::bf16_wide_master:
      return update_chunk<bfloat16, float, true>(chunk, f, grad_scale);
    case Kind::f16:
      return update_chunk<float16, float16, false>(chunk, f, grad_scale);
    case Kind::f16_master:
      return update_chunk<float16, float16, true>(chunk, f, grad_scale);
    case Kind::f16_wide:
      return update_chunk<float16, float, false>(chunk, f, grad_scale);
    case Kind::f16_wide_master:
      return update_chunk<float16, float, true>(chunk, f, grad_scale);
  }
}

Kind kind_of(const AdamWItem& item) {
  const DType p = item.param.dtype;
  const DType g = item.grad.dtype;
  if (!is_floating(p) || (g != p && g != compute_type(p))) {
    trinix::detail::fail<DtypeError>("adamw", "a gradient of {} does not fit a parameter of {}", g, p);
  }
  if (p == DType::f64) return Kind::f64;
  if (p == DType::f32) return Kind::f32;
  const int first = static_cast<int>(p == DType::bf16 ? Kind::bf16 : Kind::f16);
  return static_cast<Kind>(first + (g == p ? 0 : 2) + (item.master.data == nullptr ? 0 : 1));
}

std::pair<std::vector<std::byte>, std::int64_t> make_table(std::span<const AdamWItem> items) {
  std::vector<AdamWChunk> chunks;
  for (const AdamWItem& item : items) {
    const Kind kind = kind_of(item);
    for (std::int64_t begin = 0; begin < item.param.count; begin += kChunk) {
      const auto at = [begin](const Flat& t) -> char* {
        return t.data == nullptr ? nullptr : t.as<char>() + begin * static_cast<std::int64_t>(size_of(t.dtype));
      };
      const AdamWChunk chunk{at(item.param),
                             at(item.grad),
                             at(item.exp_avg),
                             at(item.exp_avg_sq),
                             at(item.master),
                             static_cast<std::int32_t>(std::min(kChunk, item.param.count - begin)),
                             item.rule,
                             kind,
                             false};
      chunks.push_back(chunk);
      const void* addresses[] = {chunk.param, chunk.grad, chunk.mean, chunk.square, chunk.master};
      chunks.back().vectors =
          std::ranges::all_of(addresses, [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; });
    }
  }
  return {table_bytes(chunks), static_cast<std::int64_t>(chunks.size())};
}

void adamw_forward(const AdamW::Forward& args, const Stream& stream) {
  static TableCache<AdamWItem> tables;
  const TableView table = tables.find(args.items, stream, make_table);
  if (table.rows == 0) return;
  Backend& backend = backend_of(stream.device);
  const AdamWFactors* factors = args.factors;
  void* temporary = nullptr;
  const std::size_t bytes = args.rules.size() * sizeof(AdamWFactors);
  if (factors == nullptr) {
    std::vector<AdamWFactors> values;
    for (const AdamWRule& rule : args.rules) values.push_back(adamw_factors(rule));
    if (Capture* const capture = Capture::current()) {
      factors = static_cast<const AdamWFactors*>(capture->upload(values.data(), bytes));
    } else {
      temporary = backend.allocate(bytes, stream.device.index);
      backend.write(temporary, values.data(), bytes, stream);
      factors = static_cast<const AdamWFactors*>(temporary);
    }
  }
  const Clipping clipping{.norm = args.norm.defined ? args.norm.as<const double>() : nullptr,
                          .max_norm = args.max_norm,
                          .grad_scale = args.grad_scale,
                          .skipped = args.skipped.defined ? args.skipped.as<long long>() : nullptr};
  launch("adamw", adamw_kernel, {.grid = dim3(static_cast<unsigned>(table.rows)), .block = dim3(kThreads)}, stream,
         static_cast<const AdamWChunk*>(table.data), factors, clipping);
  if (temporary != nullptr) backend.release(temporary, bytes, stream.device.index);
}

}  // namespace

void register_adamw() {
  register_kernel<AdamW>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, adamw_forward, nullptr});
}

}  // namespace trinix::cuda
