#include <cmath>
#include <limits>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/attention.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/linalg.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/softmax.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/attention.h>
#include <trinix/core/ops/dropout.h>

namespace trinix {

using detail::fail;

namespace {

void check_options(const char* op, const AttentionOptions& options) {
  if (!(options.dropout >= 0 && options.dropout <= 1)) {
    fail<ConfigError>(op, "dropout is {}; it must be in [0, 1]", options.dropout);
  }
  if (options.scale && !std::isfinite(*options.scale)) {
    fail<ConfigError>(op, "scale is {}; it must be finite", *options.scale);
  }
  if (options.window_left < -1 || options.window_right < -1) {
    fail<ConfigError>(op, "the window is {} keys to the left and {} to the right; both must be -1 (no limit) or more",
                      options.window_left, options.window_right);
  }
}

void check_attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  constexpr const char* op = "scaled_dot_product_attention";
  check_floating(op, q);
  for (const Tensor* t : {&k, &v}) {
    check_same_device(op, q, *t);
    if (t->dtype() != q.dtype()) {
      fail<DtypeError>(op, "q is {}, {} is {}; convert one with to()", q.dtype(), t == &k ? "k" : "v", t->dtype());
    }
  }
  if (q.rank() != 4 || k.rank() != 4 || v.rank() != 4) {
    fail<ShapeError>(op, "q, k and v must be (batch, length, heads, depth), got {}, {} and {}", q.shape(), k.shape(),
                     v.shape());
  }
  if (q.size(0) != k.size(0) || q.size(3) != k.size(3) || k.size(0) != v.size(0) || k.size(1) != v.size(1) ||
      k.size(2) != v.size(2)) {
    fail<ShapeError>(op, "shapes {}, {} and {} do not fit: q (B, Sq, H, D), k (B, Sk, Hkv, D), v (B, Sk, Hkv, Dv)",
                     q.shape(), k.shape(), v.shape());
  }
  if (k.size(2) == 0 || q.size(2) % k.size(2) != 0) {
    fail<ShapeError>(op, "{} query heads cannot share {} key heads evenly (shapes {} and {})", q.size(2), k.size(2),
                     q.shape(), k.shape());
  }
}

/// Where the random numbers of one call come from.
RandomState reserve(const AttentionOptions& options, const View& q, const View& k) {
  if (options.dropout == 0) return {};
  Generator& generator = options.generator != nullptr ? *options.generator : default_generator();
  const std::int64_t blocks = q.size(0) * q.size(2) * q.size(1) * ((k.size(1) + 3) / 4);
  return generator.reserve(static_cast<std::uint64_t>(blocks) * 4);
}

Attention::Inputs inputs_of(const View& q, const View& k, const View& v, const AttentionOptions& options) {
  Attention::Inputs in{.q = q, .k = k, .v = v};
  in.scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(q.size(3), 1))));
  in.causal = options.causal;
  in.window_left = options.window_left;
  in.window_right = options.window_right;
  in.dropout = options.dropout;
  in.random = reserve(options, q, k);
  return in;
}

/// The factors 1 / (1 - p) and 0 of the dropout, (B, Hkv, H / Hkv, Sq, Sk).
Tensor dropout_factors(const Attention::Inputs& in, const TensorOptions& options) {
  // Every row begins with a fresh block of four numbers: that of a dropout over rows padded to a multiple of four.
  const std::int64_t keys = in.k.size(1);
  const std::int64_t key_heads = in.k.size(2);
  const Shape shape{in.q.size(0), key_heads, in.q.size(2) / key_heads, in.q.size(1), (keys + 3) / 4 * 4};
  const Tensor factors = ones(shape, options);
  run<Dropout>({.x = factors.raw(), .y = factors.raw(), .p = in.dropout, .state = in.random}, factors.device());
  return factors.narrow(-1, 0, keys);
}

/// What the blocked kernels compute, composed of primitives, with the whole matrix of scores in memory. The heads that
/// share a key head form a dim of their own, along which k and v broadcast.
Tensor attention_reference(const Tensor& q, const Tensor& k, const Tensor& v, const Attention::Inputs& in) {
  const std::int64_t queries = q.size(1);
  const std::int64_t keys = k.size(1);
  const std::int64_t key_heads = k.size(2);
  const Tensor grouped = q.reshape({q.size(0), queries, key_heads, q.size(2) / key_heads, q.size(3)});
  const Tensor query = grouped.permute({0, 2, 3, 1, 4});
  const Tensor key = k.permute({0, 2, 3, 1}).unsqueeze(2);
  const Tensor value = v.permute({0, 2, 1, 3}).unsqueeze(2);
  Tensor scores = matmul(query * in.scale, key);
  const std::int64_t right = in.causal ? 0 : in.window_right;
  if (right >= 0 || in.window_left >= 0) {
    const TensorOptions index{DType::i64, q.device()};
    const Tensor diagonal = (arange(queries, index) + (keys - queries)).unsqueeze(1);
    const Tensor key_index = arange(keys, index);
    const auto hide = [&](const Tensor& hidden) {
      scores = masked_fill(scores, hidden, -std::numeric_limits<double>::infinity());
    };
    if (right >= 0) hide(key_index > diagonal + right);
    if (in.window_left >= 0) hide(key_index < diagonal - in.window_left);
  }
  Tensor p = softmax(scores, -1, Kernel::reference);
  if (in.dropout > 0) p = p * dropout_factors(in, {q.dtype(), q.device()});
  return matmul(p, value).permute({0, 3, 1, 2, 4}).reshape({q.size(0), queries, q.size(2), v.size(3)});
}

/// Whether there is nothing to attend with or to: the result is then empty, or zero without a gradient.
bool is_vacant(const Attention::Inputs& in) { return in.q.numel() == 0 || in.k.size(1) == 0 || in.v.size(3) == 0; }

/// Zeros of the result's shape, whose gradients are zeros too.
Tensor vacant_result(const char* op, const Shape& shape, TensorList inputs) {
  const Tensor& first = *inputs.begin();
  const Tensor out = zeros(shape, {first.dtype(), first.device()});
  return record(op, out, inputs, inputs, [count = static_cast<int>(inputs.size())](BackwardContext& ctx) {
    for (int i = 0; i < count; ++i) ctx.give(i, zeros_like(ctx.saved(i)));
  });
}

/// One of the three parts of a packed projection of shape (B, S, 3, H, D) or (B, S, 3*H*D), as (B, S, H, D).
View part_of(const View& packed, std::int64_t part, std::int64_t heads) {
  View v = packed;
  std::int64_t step = packed.strides[2];
  if (packed.rank() == 5) {
    v.shape = {packed.shape[0], packed.shape[1], packed.shape[3], packed.shape[4]};
    v.strides = {packed.strides[0], packed.strides[1], packed.strides[3], packed.strides[4]};
  } else {
    const std::int64_t depth = packed.shape[2] / (3 * heads);
    v.shape = {packed.shape[0], packed.shape[1], heads, depth};
    v.strides = {packed.strides[0], packed.strides[1], depth * step, step};
    step *= heads * depth;
  }
  v.data = static_cast<char*>(packed.data) + part * step * static_cast<std::int64_t>(size_of(packed.dtype));
  return v;
}

Tensor empty_lse(const View& q) { return empty({q.size(0), q.size(2), q.size(1)}, {DType::f32, q.device}); }

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options) {
  if (lowers({q, k, v})) return scaled_dot_product_attention(lowered(q), lowered(k), lowered(v), options);
  check_options("scaled_dot_product_attention", options);
  check_attention(q, k, v);
  Attention::Inputs in = inputs_of(q.raw(), k.raw(), v.raw(), options);
  const Tensor out = empty({q.size(0), q.size(1), q.size(2), v.size(3)}, {q.dtype(), q.device()});
  if (is_vacant(in)) return vacant_result("scaled_dot_product_attention", out.shape(), {q, k, v});
  const Tensor lse = empty_lse(in.q);
  const Attention::Forward args{.in = in, .out = out.raw(), .lse = lse.raw()};
  const auto* impl = KernelTable<Attention>::instance().select(args, q.device(), needs_grad({q, k, v}), options.kernel);
  if (impl == nullptr) return attention_reference(q, k, v, in);
  impl->forward(args, stream_of(q.device()));
  return record("scaled_dot_product_attention", out, {q, k, v}, {q, k, v, out, lse}, [impl, in](BackwardContext& ctx) {
    Attention::Backward args{.in = in, .out = ctx.saved(3).raw(), .lse = ctx.saved(4).raw(), .dout = ctx.grad().raw()};
    args.in.q = ctx.saved(0).raw();
    args.in.k = ctx.saved(1).raw();
    args.in.v = ctx.saved(2).raw();
    View* const wanted[] = {&args.dq, &args.dk, &args.dv};
    Tensor gradients[3];
    for (int i = 0; i < 3; ++i) {
      if (!ctx.needs(i)) continue;
      gradients[i] = empty(ctx.saved(i).shape(), {args.out.dtype, args.out.device});
      *wanted[i] = gradients[i].raw();
    }
    impl->backward(args, stream_of(args.out.device));
    for (int i = 0; i < 3; ++i) ctx.give(i, gradients[i]);
  });
}

Tensor packed_self_attention(const Tensor& qkv, std::int64_t heads, const AttentionOptions& options) {
  if (lowers({qkv})) return packed_self_attention(lowered(qkv), heads, options);
  constexpr const char* op = "packed_self_attention";
  check_options(op, options);
  check_floating(op, qkv);
  const bool five = qkv.rank() == 5 && qkv.size(2) == 3 && qkv.size(3) == heads;
  const bool three = qkv.rank() == 3 && heads > 0 && qkv.size(2) % (3 * heads) == 0;
  if (!five && !three) {
    fail<ShapeError>(op, "shape {} is not (B, S, 3, H, D) or (B, S, 3*H*D) with {} heads", qkv.shape(), heads);
  }
  const View packed = qkv.raw();
  const View q = part_of(packed, 0, heads);
  const Attention::Inputs in = inputs_of(q, part_of(packed, 1, heads), part_of(packed, 2, heads), options);
  const auto reference = [&] {
    const Tensor parts = qkv.reshape({q.size(0), q.size(1), 3, q.size(2), q.size(3)});
    return attention_reference(parts.select(2, 0), parts.select(2, 1), parts.select(2, 2), in);
  };
  if (is_vacant(in)) return vacant_result(op, q.shape, {qkv});
  const Tensor out = empty(q.shape, {qkv.dtype(), qkv.device()});
  const Tensor lse = empty_lse(q);
  const Attention::Forward args{.in = in, .out = out.raw(), .lse = lse.raw()};
  const auto* impl = KernelTable<Attention>::instance().select(args, qkv.device(), needs_grad({qkv}), options.kernel);
  if (impl == nullptr) return reference();
  impl->forward(args, stream_of(qkv.device()));
  return record(op, out, {qkv}, {qkv, out, lse}, [impl, in, heads](BackwardContext& ctx) {
    const View packed = ctx.saved(0).raw();
    const Tensor gradient = empty(packed.shape, {packed.dtype, packed.device});
    Attention::Backward args{.in = in, .out = ctx.saved(1).raw(), .lse = ctx.saved(2).raw(), .dout = ctx.grad().raw()};
    args.in.q = part_of(packed, 0, heads);
    args.in.k = part_of(packed, 1, heads);
    args.in.v = part_of(packed, 2, heads);
    args.dq = part_of(gradient.raw(), 0, heads);
    args.dk = part_of(gradient.raw(), 1, heads);
    args.dv = part_of(gradient.raw(), 2, heads);
    impl->backward(args, stream_of(packed.device));
    ctx.give(0, gradient);
  });
}

}  // namespace trinix
