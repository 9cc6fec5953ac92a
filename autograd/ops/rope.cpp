#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/index_operands.h>
#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/ops/joining.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/rope.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

using detail::fail;

namespace {

/// The tensors behind a rotation: tables row-major, and positions as (B, S) or undefined.
struct Angles {
  Tensor cos;
  Tensor sin;
  Tensor positions;
  std::int64_t first_position = 0;
  RopeLayout layout = RopeLayout::half;
};

void check_tables(const char* op, const Tensor& x, const Tensor& cos, const Tensor& sin) {
  for (const Tensor* t : {&cos, &sin}) {
    check_same_device(op, x, *t);
    if (t->dtype() != DType::f32) fail<DtypeError>(op, "cos and sin must be f32, got {}", t->dtype());
  }
  if (cos.rank() != 2 || cos.shape() != sin.shape()) {
    fail<ShapeError>(op, "cos and sin must both be (positions, rotated columns / 2), got {} and {}", cos.shape(),
                     sin.shape());
  }
  if (needs_grad({cos, sin})) {
    fail<AutogradError>(op, "cos and sin are tables that get no gradient, but one requires grad; detach() it");
  }
}

/// Positions as (B, S) with stride 0 where all sequences share them.
Tensor prepare_positions(const char* op, const Tensor& x, const RopeOptions& options, std::int64_t table) {
  const std::int64_t batch = x.size(0);
  const std::int64_t length = x.size(1);
  const Tensor& positions = options.positions;
  if (!positions.defined()) {
    if (options.first_position < 0 || options.first_position + length > table) {
      fail<IndexError>(op, "positions {} to {} are asked for; the tables hold 0 to {}", options.first_position,
                       options.first_position + length - 1, table - 1);
    }
    return {};
  }
  if (options.first_position != 0) {
    fail<ConfigError>(op, "both first_position {} and positions of shape {} are given; give one of them",
                      options.first_position, positions.shape());
  }
  check_index_tensor(op, x, positions);
  const bool shared = positions.shape() == Shape{length};
  if (!shared && positions.shape() != Shape{batch, length}) {
    fail<ShapeError>(op, "positions have shape {}; x of shape {} asks for [{}] or [{}, {}]", positions.shape(),
                     x.shape(), length, batch, length);
  }
  check_index_values(op, positions, table, "positions");
  return shared ? positions.unsqueeze(0).expand({batch, length}) : positions;
}

/// Checks everything but that x is (B, S, H, D), which `heads_of_depth` of the caller has settled.
Angles prepare(const char* op, const Tensor& x, std::int64_t depth, const Tensor& cos, const Tensor& sin,
               const RopeOptions& options) {
  check_floating(op, x);
  check_tables(op, x, cos, sin);
  if (2 * cos.size(1) > depth) {
    fail<ShapeError>(op, "tables of shape {} rotate {} columns, but a head has {} (x of shape {})", cos.shape(),
                     2 * cos.size(1), depth, x.shape());
  }
  return {cos.contiguous(), sin.contiguous(), prepare_positions(op, x, options, cos.size(0)), options.first_position,
          options.layout};
}

void check_heads(const char* op, const Tensor& x) {
  if (x.rank() != 4) fail<ShapeError>(op, "x must be (batch, length, heads, depth), got {}", x.shape());
}

Rope::Rotation rotation(const Angles& a, const View& from, const View& to, bool inverse) {
  return {.from = from,
          .to = to,
          .cos = a.cos.raw(),
          .sin = a.sin.raw(),
          .positions = a.positions.defined() ? a.positions.raw() : View{},
          .first_position = a.first_position,
          .layout = a.layout,
          .inverse = inverse};
}

/// The rows of a table that belong to the tokens, (B or 1, S, 1, R/2).
Tensor rows_of(const Tensor& table, const Angles& a, std::int64_t length) {
  if (a.positions.defined()) return embedding(a.positions, table).unsqueeze(2);
  return table.narrow(0, a.first_position, length).unsqueeze(0).unsqueeze(2);
}

/// What the kernels compute, composed of primitives.
Tensor rope_reference(const Tensor& x, const Angles& a, bool inverse) {
  const DType wide = compute_type(x.dtype());
  const std::int64_t pairs = a.cos.size(1);
  const Tensor c = rows_of(a.cos, a, x.size(1)).to(wide);
  const Tensor s = rows_of(a.sin, a, x.size(1)).to(wide) * (inverse ? -1 : 1);
  const Tensor turned = x.narrow(-1, 0, 2 * pairs).to(wide);
  const bool half = a.layout == RopeLayout::half;
  const Tensor first = half ? turned.narrow(-1, 0, pairs) : turned.slice(-1, 0, 2 * pairs, 2);
  const Tensor second = half ? turned.narrow(-1, pairs, pairs) : turned.slice(-1, 1, 2 * pairs, 2);
  const Tensor y0 = first * c - second * s;
  const Tensor y1 = second * c + first * s;
  Tensor y = half ? cat({y0, y1}, -1) : stack({y0, y1}, -1).flatten(-2, -1);
  y = y.to(x.dtype());
  const std::int64_t rest = x.size(-1) - 2 * pairs;
  return rest == 0 ? y : cat({y, x.narrow(-1, 2 * pairs, rest)}, -1);
}

/// Tokens, heads and columns of q and k in a packed projection, as (B, S, heads + kv_heads, D).
struct PackedHeads {
  std::int64_t rotated = 0;
  std::int64_t depth = 0;

  [[nodiscard]] View view(const View& qkv) const {
    View v = qkv;
    v.shape = {qkv.size(0), qkv.size(1), rotated, depth};
    v.strides = {qkv.stride(0), qkv.stride(1), depth * qkv.stride(2), qkv.stride(2)};
    return v;
  }
  /// The same of a tensor.
  [[nodiscard]] Tensor of(const Tensor& qkv) const {
    return qkv.narrow(-1, 0, rotated * depth).reshape({qkv.size(0), qkv.size(1), rotated, depth});
  }
};

PackedHeads check_packed(const char* op, const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads) {
  const std::int64_t all = heads + 2 * kv_heads;
  if (qkv.rank() != 3 || heads < 1 || kv_heads < 1 || qkv.size(2) % all != 0) {
    fail<ShapeError>(op, "shape {} is not (B, S, (heads + 2 kv_heads) * D) with {} query and {} key heads", qkv.shape(),
                     heads, kv_heads);
  }
  return {heads + kv_heads, qkv.size(2) / all};
}

/// Runs one rotation: by the kernel, or composed where there is none.
void rotate(const Impl<Rope>* impl, bool backward, const Rope::Rotation& args) {
  if (args.to.numel() == 0) return;
  (backward ? impl->backward : impl->forward)(args, stream_of(args.to.device));
}

/// What both in-place forms do; `heads_of` gives the part that is turned as a view, of qkv or its gradient.
template <class HeadsOf, class TensorOf>
void rotate_in_place(const char* op, const Tensor& x, const Angles& a, KernelChoice kernel, HeadsOf heads_of,
                     TensorOf tensor_of) {
  const auto* impl = KernelTable<Rope>::instance().select(rotation(a, heads_of(x.raw()), heads_of(x.raw()), false),
                                                          x.device(), needs_grad({x}), kernel);
  // The composed twin turns a copy, and puts it in place.
  const auto turn = [impl, heads_of, tensor_of](const Tensor& t, const Angles& a, bool inverse) {
    if (impl != nullptr) return rotate(impl, inverse, rotation(a, heads_of(t.raw()), heads_of(t.raw()), inverse));
    const NoGrad no_grad;
    const Tensor part = tensor_of(t.detach());
    part.copy_(rope_reference(part, a, inverse));
  };
  record_in_place(
      op, x, {x}, {a.cos, a.sin, a.positions}, [&] { turn(x, a, false); },
      [turn, first = a.first_position, layout = a.layout](BackwardContext& ctx) {
        if (!ctx.needs(0)) return;
        const Angles a{ctx.saved(0), ctx.saved(1), ctx.saved(2), first, layout};
        const Tensor dx = ctx.may_overwrite_grad() ? ctx.grad() : ctx.grad().clone();
        turn(dx, a, true);
        ctx.give(0, dx);
      });
}

}  // namespace

Tensor rope(const Tensor& x, const Tensor& cos, const Tensor& sin, const RopeOptions& options) {
  check_heads("rope", x);
  const Angles a = prepare("rope", x, x.size(3), cos, sin, options);
  const Tensor y = empty(x.shape(), {x.dtype(), x.device()});
  const Rope::Rotation args = rotation(a, x.raw(), y.raw(), false);
  const auto* impl = KernelTable<Rope>::instance().select(args, x.device(), needs_grad({x}), options.kernel);
  if (impl == nullptr) return rope_reference(x, a, false);
  rotate(impl, false, args);
  return record("rope", y, {x}, {a.cos, a.sin, a.positions},
                [impl, first = a.first_position, layout = a.layout](BackwardContext& ctx) {
                  const Angles a{ctx.saved(0), ctx.saved(1), ctx.saved(2), first, layout};
                  const bool in_place = ctx.may_overwrite_grad();  // before anybody here holds it too
                  const Tensor& dy = ctx.grad();
                  const Tensor dx = in_place ? dy : empty(dy.shape(), {dy.dtype(), dy.device()});
                  rotate(impl, true, rotation(a, dy.raw(), dx.raw(), true));
                  ctx.give(0, dx);
                });
}

const Tensor& rope_(const Tensor& x, const Tensor& cos, const Tensor& sin, const RopeOptions& options) {
  check_heads("rope_", x);
  const Angles a = prepare("rope_", x, x.size(3), cos, sin, options);
  rotate_in_place(
      "rope_", x, a, options.kernel, [](const View& v) { return v; }, [](const Tensor& t) { return t; });
  return x;
}

const Tensor& rope_packed_(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads, const Tensor& cos,
                           const Tensor& sin, const RopeOptions& options) {
  const PackedHeads packed = check_packed("rope_packed_", qkv, heads, kv_heads);
  const Angles a = prepare("rope_packed_", qkv, packed.depth, cos, sin, options);
  rotate_in_place(
      "rope_packed_", qkv, a, options.kernel, [packed](const View& v) { return packed.view(v); },
      [packed](const Tensor& t) { return packed.of(t); });
  return qkv;
}

}  // namespace trinix
