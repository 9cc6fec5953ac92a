#include <array>
#include <limits>

#include <trinix/autograd/autocast.h>
#include <trinix/autograd/ops/attention.h>
#include <trinix/autograd/ops/attention_arguments.h>
#include <trinix/autograd/ops/attention_reference.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/attention.h>

namespace trinix {

using detail::fail;

namespace {

/// The view of a tensor without a batch dim gets one of size 1, to have `rank` dims.
View batched(const Tensor& t, int rank) {
  View v = t.raw();
  if (v.rank() == rank) return v;
  Shape shape{1};
  Strides strides{0};
  for (int d = 0; d < v.rank(); ++d) {
    shape.push_back(v.shape[d]);
    strides.push_back(v.strides[d]);
  }
  v.shape = shape;
  v.strides = strides;
  return v;
}

/// How q, k and v, each (B, S, H, D), lie in the tensors that a function is given: three of that shape or without the
/// batch dim; or one, packed, (B, S, 3, H, D) or (B, S, (H + 2 Hkv) * D).
struct Parts {
  bool packed = false;
  std::int64_t heads = 0;  ///< of the packed one
  std::int64_t key_heads = 0;

  [[nodiscard]] int tensors() const { return packed ? 1 : 3; }

  /// q, k and v in tensor(0), ..., tensor(tensors() - 1), of which undefined ones give undefined views.
  template <class F>
  [[nodiscard]] std::array<View, 3> views(F&& tensor) const {
    std::array<View, 3> list;
    for (int part = 0; part < 3; ++part) {
      const Tensor& t = tensor(packed ? 0 : part);
      if (t.defined()) list[static_cast<std::size_t>(part)] = packed ? packed_view(t.raw(), part) : batched(t, 4);
    }
    return list;
  }

  /// The same with their history, from packed or other tensors.
  [[nodiscard]] std::array<Tensor, 3> differentiable(const std::vector<Tensor>& tensors) const {
    std::array<Tensor, 3> list;
    for (int part = 0; part < 3; ++part) {
      Tensor& t = list[static_cast<std::size_t>(part)];
      if (packed) {
        const View v = packed_view(tensors[0].raw(), part);
        t = tensors[0].reshape({v.shape[0], v.shape[1], heads + 2 * key_heads, v.shape[3]});
        t = t.narrow(2, first_head(part), v.shape[2]);
      } else {
        t = tensors[static_cast<std::size_t>(part)];
        if (t.rank() == 3) t = t.unsqueeze(0);
      }
    }
    return list;
  }

 private:
  [[nodiscard]] std::int64_t first_head(int part) const {
    return part == 0 ? 0 : part == 1 ? heads : heads + key_heads;
  }

  [[nodiscard]] View packed_view(const View& whole, int part) const {
    View v = whole;
    const std::int64_t own = part == 0 ? heads : key_heads;
    std::int64_t begin = 0;
    if (whole.rank() == 5) {
      v.shape = {whole.shape[0], whole.shape[1], own, whole.shape[4]};
      v.strides = {whole.strides[0], whole.strides[1], whole.strides[3], whole.strides[4]};
      begin = part * whole.strides[2];
    } else {
      const std::int64_t depth = whole.shape[2] / (heads + 2 * key_heads);
      v.shape = {whole.shape[0], whole.shape[1], own, depth};
      v.strides = {whole.strides[0], whole.strides[1], depth * whole.strides[2], whole.strides[2]};
      begin = first_head(part) * depth * whole.strides[2];
    }
    // A tensor without elements may have no address to count from.
    if (v.numel() > 0) v.data = static_cast<char*>(v.data) + begin * static_cast<std::int64_t>(size_of(v.dtype));
    return v;
  }
};

/// One call of any of the public functions.
struct Call {
  const char* op;
  Parts parts;
  std::vector<Tensor> inputs;  ///< of `parts`, then the mask where there is one: whatever may get a gradient
  AttentionExtras extras;
  Attention::Inputs in;
  KernelChoice kernel;
  bool lse_wanted;
};

/// Where a call's tensors are found among those saved for its backward.
struct SavedAt {
  explicit SavedAt(const Parts& parts) : mask(parts.tensors()) {}
  int mask;
  int slopes = mask + 1;
  int query_starts = mask + 2;
  int key_starts = mask + 3;
  int out = mask + 4;
  int lse = mask + 5;
};

class AttentionBackward {
 public:
  AttentionBackward(const Call& call, const Impl<Attention>* impl) : impl_(impl), parts_(call.parts), in_(call.in) {}

  void operator()(BackwardContext& ctx) const {
    const SavedAt at(parts_);
    const int tensors = parts_.tensors();
    Attention::Backward args{.in = in_, .out = batched(ctx.saved(at.out), 4), .lse = batched(ctx.saved(at.lse), 3)};
    const auto operands = parts_.views([&](int i) -> const Tensor& { return ctx.saved(i); });
    args.in.q = operands[0];
    args.in.k = operands[1];
    args.in.v = operands[2];
    // The views of these hold as they are, but a change in place must be noticed.
    for (const int i : {at.mask, at.slopes, at.query_starts, at.key_starts}) static_cast<void>(ctx.saved(i));
    const Device device = args.out.device;
    args.dout = batched(ctx.grad(0), 4);
    Tensor dlse;
    if (in_.lse_grad && ctx.has_grad(1)) {
      dlse = ctx.grad(1).contiguous();
      args.dlse = batched(dlse, 3);
    }
    std::array<Tensor, 3> gradients;
    for (int i = 0; i < tensors; ++i) {
      if (ctx.needs(i)) gradients[static_cast<std::size_t>(i)] = empty(ctx.saved(i).shape(), {args.out.dtype, device});
    }
    const auto wanted = parts_.views([&](int i) -> const Tensor& { return gradients[static_cast<std::size_t>(i)]; });
    args.dq = wanted[0];
    args.dk = wanted[1];
    args.dv = wanted[2];
    Tensor dmask;
    if (in_.mask_grad && ctx.needs(at.mask)) {
      dmask = zeros(ctx.saved(at.mask).shape(), {args.lse.dtype, device});
      args.dmask = dmask.raw();
    }
    impl_->backward(args, stream_of(device));
    for (int i = 0; i < tensors; ++i) ctx.give(i, gradients[static_cast<std::size_t>(i)]);
    if (dmask.defined()) ctx.give(at.mask, dmask.to(in_.mask.dtype));
  }

 private:
  const Impl<Attention>* impl_;
  Parts parts_;
  Attention::Inputs in_;
};

/// No query, or no key to attend to: the result is empty, or zero without a gradient.
bool is_vacant(const Attention::Inputs& in) { return in.q.size(0) * in.q.size(1) * in.q.size(2) * in.k.size(1) == 0; }

AttentionResult fill_vacant(const Call& call, const AttentionResult& result) {
  result.out.copy_(zeros({}, {result.out.dtype(), result.out.device()}));
  result.lse.copy_(full({}, -std::numeric_limits<double>::infinity(), {result.lse.dtype(), result.lse.device()}));
  record_all(call.op, {result.out, result.lse}, call.inputs, call.inputs,
             [count = static_cast<int>(call.inputs.size())](BackwardContext& ctx) {
               for (int i = 0; i < count; ++i) {
                 if (ctx.needs(i)) ctx.give(i, zeros_like(ctx.saved(i)));
               }
             });
  return result;
}

/// The result without the batch dim that the contract has for sequences.
AttentionResult run_reference(const Call& call) {
  const auto [q, k, v] = call.parts.differentiable(call.inputs);
  AttentionResult result = attention_reference(q, k, v, call.extras, call.in, call.lse_wanted);
  if (!call.in.query_starts.defined) return result;
  result.out = result.out.select(0, 0);
  if (call.lse_wanted) result.lse = result.lse.select(0, 0);
  return result;
}

/// lse is only part of the graph when it is wanted.
AttentionResult run_attention(const Call& call) {
  const Attention::Inputs& in = call.in;
  const bool several = in.query_starts.defined;
  Shape out_shape{in.q.size(0), in.q.size(1), in.q.size(2), in.v.size(3)};
  Shape lse_shape{in.q.size(0), in.q.size(2), in.q.size(1)};
  if (several) {
    out_shape = {out_shape[1], out_shape[2], out_shape[3]};
    lse_shape = {lse_shape[1], lse_shape[2]};
  }
  AttentionResult result{empty(out_shape, {in.q.dtype, in.q.device}),
                         empty(lse_shape, {compute_type(in.q.dtype), in.q.device})};
  if (is_vacant(in)) return fill_vacant(call, result);
  // Vectors without components have no address, and are nothing to write a kernel for.
  if (in.q.size(3) == 0 || in.v.size(3) == 0) return run_reference(call);
  const Attention::Forward args{.in = in, .out = batched(result.out, 4), .lse = batched(result.lse, 3)};
  const auto* impl = KernelTable<Attention>::instance().select(args, in.q.device, needs_grad(call.inputs), call.kernel);
  if (impl == nullptr) return run_reference(call);
  impl->forward(args, stream_of(in.q.device));
  std::vector<Tensor> saved(call.inputs.begin(), call.inputs.begin() + call.parts.tensors());
  for (const Tensor& t : {call.extras.mask, call.extras.alibi, call.extras.starts.query, call.extras.starts.key,
                          result.out, result.lse}) {
    saved.push_back(t);
  }
  if (call.lse_wanted) {
    record_all(call.op, {result.out, result.lse}, call.inputs, saved, AttentionBackward(call, impl));
  } else {
    record(call.op, result.out, call.inputs, saved, AttentionBackward(call, impl));
  }
  return result;
}

AttentionResult attend(const char* op, const Parts& parts, std::vector<Tensor> tensors, const SequenceStarts& starts,
                       const AttentionOptions& options, bool lse_wanted) {
  for (Tensor& t : tensors) t = lowered(t);
  const NoAutocast as_it_is;  // from here on types are chosen with care
  const auto [q, k, v] = parts.views([&](int i) -> const Tensor& { return tensors[static_cast<std::size_t>(i)]; });
  AttentionExtras extras = attention_extras(op, q, k, options, starts);
  Attention::Inputs in = attention_inputs(q, k, v, options, extras);
  if (extras.mask.defined()) tensors.push_back(extras.mask);
  in.lse_grad = lse_wanted && needs_grad(tensors);
  return run_attention({op, parts, std::move(tensors), std::move(extras), in, options.kernel, lse_wanted});
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options) {
  if (lowers({q, k, v})) return scaled_dot_product_attention(lowered(q), lowered(k), lowered(v), options);
  constexpr const char* op = "scaled_dot_product_attention";
  check_attention_operands(op, q, k, v);
  return attend(op, {}, {q, k, v}, {}, options, /*lse_wanted=*/false).out;
}

AttentionResult attention_with_lse(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  if (lowers({q, k, v})) return attention_with_lse(lowered(q), lowered(k), lowered(v), options);
  constexpr const char* op = "attention_with_lse";
  check_attention_operands(op, q, k, v);
  return attend(op, {}, {q, k, v}, {}, options, /*lse_wanted=*/true);
}

Tensor scaled_dot_product_attention_varlen(const Tensor& q, const Tensor& k, const Tensor& v,
                                           const Tensor& query_starts, const Tensor& key_starts,
                                           std::int64_t longest_query, std::int64_t longest_key,
                                           const AttentionOptions& options) {
  if (lowers({q, k, v})) {
    return scaled_dot_product_attention_varlen(lowered(q), lowered(k), lowered(v), query_starts, key_starts,
                                               longest_query, longest_key, options);
  }
  constexpr const char* op = "scaled_dot_product_attention_varlen";
  const SequenceStarts starts{query_starts, key_starts, longest_query, longest_key};
  check_attention_sequences(op, q, k, v, starts);
  return attend(op, {}, {q, k, v}, starts, options, /*lse_wanted=*/false).out;
}

AttentionResult attention_varlen_with_lse(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& query_starts,
                                          const Tensor& key_starts, std::int64_t longest_query,
                                          std::int64_t longest_key, const AttentionOptions& options) {
  if (lowers({q, k, v})) {
    return attention_varlen_with_lse(lowered(q), lowered(k), lowered(v), query_starts, key_starts, longest_query,
                                     longest_key, options);
  }
  constexpr const char* op = "attention_varlen_with_lse";
  const SequenceStarts starts{query_starts, key_starts, longest_query, longest_key};
  check_attention_sequences(op, q, k, v, starts);
  return attend(op, {}, {q, k, v}, starts, options, /*lse_wanted=*/true);
}

Tensor packed_self_attention(const Tensor& qkv, std::int64_t heads, const AttentionOptions& options) {
  constexpr const char* op = "packed_self_attention";
  check_floating(op, qkv);
  const bool five = qkv.rank() == 5 && qkv.size(2) == 3 && qkv.size(3) == heads;
  const bool three = qkv.rank() == 3 && heads > 0 && qkv.size(2) % (3 * heads) == 0;
  if (!five && !three) {
    fail<ShapeError>(op, "shape {} is not (B, S, 3, H, D) or (B, S, 3*H*D) with {} heads", qkv.shape(), heads);
  }
  return attend(op, {.packed = true, .heads = heads, .key_heads = heads}, {qkv}, {}, options, /*lse_wanted=*/false).out;
}

Tensor packed_self_attention(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads,
                             const AttentionOptions& options) {
  constexpr const char* op = "packed_self_attention";
  check_floating(op, qkv);
  if (heads <= 0 || kv_heads <= 0 || heads % kv_heads != 0) {
    fail<ShapeError>(op, "{} query heads cannot share {} key heads evenly", heads, kv_heads);
  }
  if (qkv.rank() != 3 || qkv.size(2) % (heads + 2 * kv_heads) != 0) {
    fail<ShapeError>(op, "shape {} is not (B, S, (H + 2*Hkv) * D) with {} query heads and {} key heads", qkv.shape(),
                     heads, kv_heads);
  }
  return attend(op, {.packed = true, .heads = heads, .key_heads = kv_heads}, {qkv}, {}, options, /*lse_wanted=*/false)
      .out;
}

}  // namespace trinix
