#include <cmath>

#include <trinix/backends/cuda/attention/attention.h>
#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/scratch.h>
#include <trinix/core/deterministic.h>
#include <trinix/core/half.h>
#include <trinix/core/ops/attention.h>
#include <trinix/core/ops/dropout.h>

namespace trinix::cuda {

namespace {

constexpr int kUnlimited = 1 << 29;
constexpr std::int64_t kLongest = 1 << 28;  ///< lengths and offsets then fit 32 bits

/// The band of one side: how far beyond the diagonal a query sees.
int reach(std::int64_t window, bool causal) {
  if (causal) return 0;
  return window < 0 ? kUnlimited : static_cast<int>(std::min<std::int64_t>(window, kUnlimited));
}

bool in_vectors(const View& v) {
  const auto bytes_fit = [](std::int64_t elements) { return elements % 8 == 0; };
  bool fits = reinterpret_cast<std::uintptr_t>(v.data) % 16 == 0 && v.shape[3] % 8 == 0;
  fits = fits && (v.shape[3] == 1 || v.strides[3] == 1);
  for (int i = 0; i < 3; ++i) fits = fits && (v.shape[i] == 1 || bytes_fit(v.strides[i]));
  return fits;
}

/// Shared memory that a block of this device may have.
int shared_limit(Device device) {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.index), "attention");
  return bytes;
}

const char* why_not(const Attention::Forward& args, bool needs_grad) {
  const Attention::Inputs& in = args.in;
  if (in.q.dtype != DType::bf16 && in.q.dtype != DType::f16) return "takes bf16 and f16";
  const std::int64_t depth = in.q.size(3);
  if (depth > 128 || depth % 8 != 0) return "takes head dims up to 128 that are multiples of 8";
  if (in.v.size(3) != depth) return "takes values of the same head dim as the keys";
  if (in.q.size(1) > kLongest || in.k.size(1) > kLongest) return "takes at most 2^28 queries and keys";
  if (!(in.scale > 0)) return "takes a positive scale";
  if (in.alibi.defined) return "has no ALiBi slopes";
  if (in.mask.defined) return "has no mask";
  if (in.query_starts.defined) return "takes sequences of one length only";
  for (const View* v : {&in.q, &in.k, &in.v, &args.out}) {
    if (!in_vectors(*v)) return "needs rows of 16-byte pieces: innermost stride 1, the others multiples of 8, aligned";
  }
  if (shared_limit(in.q.device) < attention_shared_bytes(attention_width(depth), needs_grad)) {
    return "needs more shared memory than this device has";
  }
  return nullptr;
}

template <class F>
void dispatch(const AttentionProblem& p, DType dtype, F f) {
  const auto with_type = [&]<class T>() {
    switch (attention_width(p.depth)) {
      case 64:
        return f.template operator()<T, 64>();
      case 96:
        return f.template operator()<T, 96>();
      default:
        return f.template operator()<T, 128>();
    }
  };
  if (dtype == DType::bf16) {
    with_type.template operator()<bfloat16>();
  } else {
    with_type.template operator()<float16>();
  }
}

void forward(const Attention::Forward& args, const Stream& stream) {
  const AttentionForwardTask task{AttentionProblem(args.in), heads_view(args.out), args.lse.as<float>()};
  dispatch(task.problem, args.in.q.dtype, [&]<class T, int kWidth>() { run_forward<T, kWidth>(task, stream); });
}

void backward(const Attention::Backward& args, const Stream& stream) {
  const AttentionProblem p(args.in);
  const auto view = [](const View& v) { return v.defined ? heads_view(v) : HeadsView{}; };
  const bool keys_wanted = args.dk.defined || args.dv.defined;
  const bool sums = args.dq.defined && keys_wanted && !is_deterministic();
  const int padded = (p.queries + 127) / 128 * 128;
  const std::size_t rows = static_cast<std::size_t>(p.batch) * p.heads * padded;
  const std::size_t sum_bytes = sums ? rows * attention_width(p.depth) * sizeof(float) : 0;
  const Scratch statistics(2 * rows * sizeof(float), stream);
  const Scratch sum(sum_bytes, stream);
  const bool gathers = !in_vectors(args.dout);
  const Scratch gathered(gathers ? static_cast<std::size_t>(args.dout.numel()) * 2 : 0, stream);
  HeadsView dout = heads_view(args.dout);
  if (gathers) dout = gather_queries(dout, p, gathered.as<void>(), stream);
  auto* const lse2 = statistics.as<float>();
  const AttentionBackwardTask task{.problem = p,
                                   .out = heads_view(args.out),
                                   .dout = dout,
                                   .lse = args.lse.as<float>(),
                                   .dlse = args.dlse.defined ? args.dlse.as<float>() : nullptr,
                                   .dq = view(args.dq),
                                   .dk = view(args.dk),
                                   .dv = view(args.dv),
                                   .padded_queries = padded,
                                   .lse2 = lse2,
                                   .delta = lse2 + rows,
                                   .dq_sum = sum.as<float>()};
  if (sums) backend_of(stream.device).zero(sum.as<void>(), sum_bytes, stream);
  dispatch(p, args.in.q.dtype, [&]<class T, int kWidth>() {
    run_backward_rows<T>(task, stream);
    if (keys_wanted) run_backward_keys<T, kWidth>(task, stream);
    if (sums) run_backward_finish<T, kWidth>(task, stream);
    if (args.dq.defined && !sums) run_backward_queries<T, kWidth>(task, stream);
  });
}

}  // namespace

HeadsView heads_view(const View& v) {
  return {v.data, v.strides[0], v.strides[1], v.strides[2], v.strides[3], in_vectors(v)};
}

AttentionProblem::AttentionProblem(const Attention::Inputs& in)
    : q(heads_view(in.q)),
      k(heads_view(in.k)),
      v(heads_view(in.v)),
      batch(static_cast<int>(in.q.size(0))),
      queries(static_cast<int>(in.q.size(1))),
      keys(static_cast<int>(in.k.size(1))),
      heads(static_cast<int>(in.q.size(2))),
      key_heads(static_cast<int>(in.k.size(2))),
      depth(static_cast<int>(in.q.size(3))),
      group(heads / key_heads),
      first_offset(keys - queries - reach(in.window_left, false)),
      last_offset(keys - queries + reach(in.window_right, in.causal)),
      scale(static_cast<float>(in.scale)),
      scale_log2(static_cast<float>(in.scale * 1.4426950408889634)),
      drop_threshold(dropout_threshold(in.dropout)),
      keep_scale(static_cast<float>(dropout_scale(in.dropout))),
      drops(in.dropout > 0),
      random(in.random) {}

void register_attention() {
  register_kernel<Attention>({"cuda_mma", Kernel::fused, DeviceType::cuda, 10, why_not, forward, backward});
}

}  // namespace trinix::cuda
