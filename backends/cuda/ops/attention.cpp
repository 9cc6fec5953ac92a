#include <cmath>

#include <trinix/backends/cuda/attention/attention.h>
#include <trinix/backends/cuda/attention/decode/decode.h>
#include <trinix/backends/cuda/attention/flash/flash.h>
#include <trinix/backends/cuda/probe.h>
#include <trinix/backends/cuda/properties.h>
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

/// What all families ask for.
const char* why_not_at_all(const Attention::Inputs& in) {
  if (in.q.dtype != DType::bf16 && in.q.dtype != DType::f16) return "takes bf16 and f16";
  if (in.q.size(3) > kAttentionDepth || in.v.size(3) > kAttentionDepth) return "takes head dims up to 256";
  for (const std::int64_t length : {in.q.size(1), in.k.size(1), in.longest_query, in.longest_key}) {
    if (length > kLongest) return "takes at most 2^28 queries and keys";
  }
  if (in.mask.defined && in.mask.dtype != DType::boolean && in.mask.dtype != DType::f32 &&
      in.mask.dtype != DType::bf16 && in.mask.dtype != DType::f16) {
    return "takes masks in bool, f32, bf16 and f16";
  }
  return nullptr;
}

/// Whether the backward takes the small tiles on this device.
bool takes_small(Device device, int width) {
  return attention_has_small(width) && shared_limit(device) < attention_shared_bytes(width, true, false);
}

const char* why_not(const Attention::Forward& args, bool needs_grad) {
  const Attention::Inputs& in = args.in;
  if (const char* reason = why_not_at_all(in)) return reason;
  const int width = attention_width(std::max(in.q.size(3), in.v.size(3)));
  const bool small = takes_small(in.q.device, width);
  if (shared_limit(in.q.device) < attention_shared_bytes(width, false, false) ||
      (needs_grad && shared_limit(in.q.device) < attention_shared_bytes(width, true, small))) {
    return "needs more shared memory than this device has";
  }
  return nullptr;
}

const char* flash_why_not(const Attention::Forward& args, bool) {
  const Attention::Inputs& in = args.in;
  if (const char* reason = why_not_at_all(in)) return reason;
  if (!has_hopper_code(in.q.device)) return "runs on Hopper, compiled for sm_90a";
  return nullptr;
}

const char* decode_why_not(const Attention::Forward& args, bool) {
  const Attention::Inputs& in = args.in;
  if (const char* reason = why_not_at_all(in)) return reason;
  if ((in.query_starts.defined ? in.longest_query : in.q.size(1)) > kDecodeQueries) return "takes up to 16 queries";
  if (in.dropout > 0) return "takes no dropout";
  const std::int64_t depth = std::max(in.q.size(3), in.v.size(3));
  if (shared_limit(in.q.device) < decode_shared_bytes(decode_width(depth))) {
    return "needs more shared memory than this device has";
  }
  return nullptr;
}

template <class F>
void with_type(DType dtype, F f) {
  if (dtype == DType::bf16) {
    f.template operator()<bfloat16>();
  } else {
    f.template operator()<float16>();
  }
}

template <class F>
void dispatch(const AttentionProblem& p, DType dtype, F f) {
  with_type(dtype, [&]<class T>() {
    switch (attention_width(std::max(p.depth, p.value_depth))) {
      case 64:
        return f.template operator()<T, 64>();
      case 96:
        return f.template operator()<T, 96>();
      case 128:
        return f.template operator()<T, 128>();
      case 192:
        return f.template operator()<T, 192>();
      default:
        return f.template operator()<T, 256>();
    }
  });
}

/// Who reads an operand: threads, or the copy engine, which does not take dims that were expanded.
enum class Reader : std::uint8_t { threads, copy_engine };

/// Whether the operand can be read where it lies: its rows are 16-byte pieces.
bool is_readable(const View& v, Reader reader) {
  bool expanded = false;
  for (int i = 0; i < 3; ++i) expanded = expanded || (v.shape[i] > 1 && v.strides[i] <= 0);
  return in_vectors(v) && !(expanded && reader == Reader::copy_engine);
}

/// An operand as the kernels read it: itself, or a copy.
class Readable {
 public:
  Readable(const View& v, Reader reader, const Stream& stream)
      : columns_((v.size(3) + 7) / 8 * 8),
        copy_(is_readable(v, reader) ? 0 : static_cast<std::size_t>(v.numel() / v.size(3) * columns_) * 2, stream),
        view_(is_readable(v, reader) ? heads_view(v)
                                     : gather_rows(v, copy_.as<void>(), static_cast<int>(columns_), stream)) {}

  [[nodiscard]] const HeadsView& view() const { return view_; }

 private:
  std::int64_t columns_;
  Scratch copy_;
  HeadsView view_;
};

/// The problem with operands that the kernels can read.
class ReadableProblem {
 public:
  ReadableProblem(const Attention::Inputs& in, Reader reader, const Stream& stream)
      : q_(in.q, reader, stream), k_(in.k, reader, stream), v_(in.v, reader, stream), problem_(in) {
    problem_.q = q_.view();
    problem_.k = k_.view();
    problem_.v = v_.view();
  }

  [[nodiscard]] const AttentionProblem& problem() const { return problem_; }

 private:
  Readable q_;
  Readable k_;
  Readable v_;
  AttentionProblem problem_;
};

void forward(const Attention::Forward& args, const Stream& stream) {
  const ReadableProblem readable(args.in, Reader::threads, stream);
  const AttentionForwardTask task{readable.problem(), heads_view(args.out), args.lse.as<float>()};
  dispatch(task.problem, args.in.q.dtype, [&]<class T, int kWidth>() { run_forward<T, kWidth>(task, stream); });
}

template <class T>
void flash_forward_of(const AttentionForwardTask& task, const Stream& stream) {
  const AttentionProblem& p = task.problem;
  if (p.value_depth > 128 || p.depth > 192) return run_flash_forward<T, 256, 256>(task, stream);
  if (p.depth > 128) return run_flash_forward<T, 192, 128>(task, stream);
  switch (flash_width(std::max(p.depth, p.value_depth))) {
    case 64:
      return run_flash_forward<T, 64, 64>(task, stream);
    case 96:
      return run_flash_forward<T, 96, 96>(task, stream);
    default:
      return run_flash_forward<T, 128, 128>(task, stream);
  }
}

template <class T>
void flash_backward_of(const AttentionBackwardTask& task, const Stream& stream) {
  const AttentionProblem& p = task.problem;
  switch (flash_width(std::max(p.depth, p.value_depth))) {
    case 64:
      return run_flash_backward<T, 64>(task, stream);
    case 96:
      return run_flash_backward<T, 96>(task, stream);
    default:
      return run_flash_backward<T, 128>(task, stream);
  }
}

void flash_forward(const Attention::Forward& args, const Stream& stream) {
  const ReadableProblem readable(args.in, Reader::copy_engine, stream);
  const AttentionForwardTask task{readable.problem(), heads_view(args.out), args.lse.as<float>()};
  with_type(args.in.q.dtype, [&]<class T>() { flash_forward_of<T>(task, stream); });
}

template <class T>
void decode(const AttentionForwardTask& task, const Stream& stream) {
  switch (decode_width(std::max(task.problem.depth, task.problem.value_depth))) {
    case 64:
      return run_decode<T, 64>(task, stream);
    case 128:
      return run_decode<T, 128>(task, stream);
    default:
      return run_decode<T, 256>(task, stream);
  }
}

void decode_forward(const Attention::Forward& args, const Stream& stream) {
  const ReadableProblem readable(args.in, Reader::threads, stream);
  const AttentionForwardTask task{readable.problem(), heads_view(args.out), args.lse.as<float>()};
  with_type(args.in.q.dtype, [&]<class T>() { decode<T>(task, stream); });
}

/// The gradient of the mask, whose dims of size 1 are summed over.
template <class T>
void mask_backward(const AttentionBackwardTask& task, const View& dmask, const Stream& stream) {
  const AttentionMaskTask mask_task{.backward = task,
                                    .dmask = dmask.as<float>(),
                                    .batches = static_cast<int>(dmask.size(0)),
                                    .heads = static_cast<int>(dmask.size(1))};
  run_backward_mask<T>(mask_task, is_deterministic(), stream);
}

/// @param flash whether the kernels for Hopper take what they can
void backward_by(const Attention::Backward& args, bool flash, const Stream& stream) {
  const bool keys_wanted = args.dk.defined || args.dv.defined;
  flash = flash && flash_has_backward(args.in) && keys_wanted && !is_deterministic();
  const Reader reader = flash ? Reader::copy_engine : Reader::threads;
  const ReadableProblem readable(args.in, reader, stream);
  const AttentionProblem& p = readable.problem();
  const Readable dout(args.dout, reader, stream);
  const auto view = [](const View& v) { return v.defined ? heads_view(v) : HeadsView{}; };
  const bool sums = args.dq.defined && keys_wanted && !is_deterministic();
  constexpr int kPadding = 128;  // a multiple of every tile of queries
  const int padded = (p.queries + kPadding - 1) / kPadding * kPadding;
  const std::int64_t padded_total = (args.in.q.size(1) + std::int64_t{kPadding} * p.batch) / kPadding * kPadding;
  const std::int64_t rows =
      p.heads * (p.query_starts == nullptr ? static_cast<std::int64_t>(p.batch) * padded : padded_total);
  const int width = attention_width(std::max(p.depth, p.value_depth));
  const bool small = takes_small(stream.device, width);
  const int sum_width = flash ? flash_sum_width(std::max(p.depth, p.value_depth)) : width;
  // With the note of what is not finite behind the sums, so that both are zeroed at once.
  const std::size_t sum_bytes = sums ? static_cast<std::size_t>(rows) * sum_width * sizeof(float) : 0;
  const std::size_t zeroed = sum_bytes + (flash ? sizeof(int) : 0);
  const Scratch statistics(2 * static_cast<std::size_t>(rows) * sizeof(float), stream);
  const Scratch sum(zeroed, stream);
  auto* const lse2 = statistics.as<float>();
  const AttentionBackwardTask task{.problem = p,
                                   .out = heads_view(args.out),
                                   .dout = dout.view(),
                                   .lse = args.lse.as<float>(),
                                   .dlse = args.dlse.defined ? args.dlse.as<float>() : nullptr,
                                   .dq = view(args.dq),
                                   .dk = view(args.dk),
                                   .dv = view(args.dv),
                                   .padded_queries = padded,
                                   .padded_total = padded_total,
                                   .lse2 = lse2,
                                   .delta = lse2 + rows,
                                   .dq_sum = sums ? sum.as<float>() : nullptr,
                                   .suspect = flash ? reinterpret_cast<int*>(sum.as<char>() + sum_bytes) : nullptr};
  if (zeroed > 0) backend_of(stream.device).zero(sum.as<void>(), zeroed, stream);
  if (flash) {
    with_type(args.in.q.dtype, [&]<class T>() {
      run_backward_rows<T>(task, stream);
      flash_backward_of<T>(task, stream);
      if (args.dmask.defined) mask_backward<T>(task, args.dmask, stream);
    });
    return;
  }
  dispatch(p, args.in.q.dtype, [&]<class T, int kWidth>() {
    run_backward_rows<T>(task, stream);
    if (keys_wanted) run_backward_keys<T, kWidth>(task, small, stream);
    if (sums) run_backward_finish<T, kWidth>(task, small, stream);
    if (args.dq.defined && !sums) run_backward_queries<T, kWidth>(task, small, stream);
    if (args.dmask.defined) mask_backward<T>(task, args.dmask, stream);
  });
}

void backward(const Attention::Backward& args, const Stream& stream) { backward_by(args, false, stream); }
void flash_backward(const Attention::Backward& args, const Stream& stream) { backward_by(args, true, stream); }

MaskView mask_view(const View& v) {
  if (!v.defined) return {};
  const auto stride = [&](int i) { return v.shape[i] == 1 ? 0 : v.strides[i]; };
  MaskView m{
      .data = v.data, .batch = stride(0), .head = stride(1), .row = stride(2), .key = stride(3), .dtype = v.dtype};
  const auto even = [](std::int64_t x) { return x % 2 == 0; };
  m.pairs = m.key == 1 && even(v.size(3)) && even(m.batch) && even(m.head) && even(m.row) &&
            reinterpret_cast<std::uintptr_t>(v.data) % (2 * size_of(v.dtype)) == 0;
  return m;
}

}  // namespace

bool in_vectors(const View& v) {
  const auto bytes_fit = [](std::int64_t elements) { return elements % 8 == 0; };
  bool fits = reinterpret_cast<std::uintptr_t>(v.data) % 16 == 0 && v.shape[3] % 8 == 0 && v.strides[3] == 1;
  for (int i = 0; i < 3; ++i) fits = fits && (v.shape[i] == 1 || bytes_fit(v.strides[i]));
  return fits;
}

HeadsView heads_view(const View& v) {
  // One batch may be as many sequences.
  const std::int64_t batch = v.shape[0] == 1 ? 0 : v.strides[0];
  return {v.data, batch, v.strides[1], v.strides[2], v.strides[3], in_vectors(v)};
}

AttentionProblem::AttentionProblem(const Attention::Inputs& in)
    : q(heads_view(in.q)),
      k(heads_view(in.k)),
      v(heads_view(in.v)),
      query_rows(in.q.size(1)),
      key_rows(in.k.size(1)),
      heads(static_cast<int>(in.q.size(2))),
      key_heads(static_cast<int>(in.k.size(2))),
      depth(static_cast<int>(in.q.size(3))),
      value_depth(static_cast<int>(in.v.size(3))),
      chunks((depth + 7) / 8),
      value_chunks((value_depth + 7) / 8),
      group(heads / key_heads),
      reach_left(reach(in.window_left, false)),
      reach_right(reach(in.window_right, in.causal)),
      scale(static_cast<float>(in.scale)),
      scale_log2(static_cast<float>(in.scale * 1.4426950408889634)),
      drop_threshold(dropout_threshold(in.dropout)),
      keep_scale(static_cast<float>(dropout_scale(in.dropout))),
      drops(in.dropout > 0),
      random(in.random),
      alibi(in.alibi.defined ? in.alibi.as<float>() : nullptr),
      alibi_batch(in.alibi.defined ? in.alibi.stride(0) : 0),
      alibi_head(in.alibi.defined ? in.alibi.stride(1) : 0),
      mask(mask_view(in.mask)),
      query_starts(in.query_starts.defined ? in.query_starts.as<int>() : nullptr),
      key_starts(in.key_starts.defined ? in.key_starts.as<int>() : nullptr) {
  const bool one_length = query_starts == nullptr;
  batch = static_cast<int>(one_length ? in.q.size(0) : in.query_starts.size(0) - 1);
  queries = static_cast<int>(one_length ? in.q.size(1) : in.longest_query);
  keys = static_cast<int>(one_length ? in.k.size(1) : in.longest_key);
  first_offset = keys - queries - reach_left;
  last_offset = keys - queries + reach_right;
  lse_head = in.q.size(1);
  lse_batch = one_length ? heads * lse_head : 0;
}

AttentionMode AttentionProblem::mode() const {
  const bool bare = mask.data == nullptr && query_starts == nullptr;
  if (!bare || value_depth != depth || !(scale > 0) || (drops && alibi != nullptr)) return AttentionMode::general;
  return drops ? AttentionMode::drops : alibi != nullptr ? AttentionMode::slopes : AttentionMode::plain;
}

void register_attention() {
  register_kernel<Attention>({"cuda_mma", Kernel::fused, DeviceType::cuda, 10, why_not, forward, backward});
  // Of few queries by their memory alone, which this one reads once: ahead of the others, where no gradient is wanted.
  register_kernel<Attention>(
      {"cuda_decode", Kernel::flash, DeviceType::cuda, 30, decode_why_not, decode_forward, nullptr});
  register_kernel<Attention>(
      {"cuda_wgmma", Kernel::flash, DeviceType::cuda, 20, flash_why_not, flash_forward, flash_backward});
}

}  // namespace trinix::cuda
