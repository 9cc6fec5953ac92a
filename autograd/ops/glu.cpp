#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/glu.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

using detail::fail;

namespace {

Activation activation_of(Glu kind) {
  switch (kind) {
    case Glu::swiglu:
      return Activation::silu;
    case Glu::geglu_erf:
      return Activation::gelu_erf;
    case Glu::geglu_tanh:
      return Activation::gelu_tanh;
    case Glu::reglu:
      break;
  }
  return Activation::relu;
}

/// What the kernels compute, composed of primitives.
Tensor glu_reference(const Tensor& gate, const Tensor& value, Glu kind) {
  const DType wide = compute_type(gate.dtype());
  return (activate(gate.to(wide), activation_of(kind), Kernel::reference) * value.to(wide)).to(gate.dtype());
}

/// The first or second half of the last dim.
View half_of(View packed, int which) {
  const int last = packed.rank() - 1;
  packed.shape[last] /= 2;
  const std::int64_t elements = which * packed.shape[last] * packed.strides[last];
  if (packed.data != nullptr) {
    packed.data = static_cast<char*>(packed.data) + elements * static_cast<std::int64_t>(size_of(packed.dtype));
  }
  return packed;
}

/// Which half is the gate.
int gate_half(GluOrder order) { return order == GluOrder::gate_first ? 0 : 1; }

}  // namespace

Tensor glu(const Tensor& packed, Glu kind, GluOrder order, KernelChoice kernel) {
  check_floating("glu", packed);
  if (packed.rank() == 0 || packed.size(-1) % 2 != 0) {
    fail<ShapeError>("glu", "the last dim of shape {} cannot be split into a gate and a value of one size",
                     packed.shape());
  }
  const int gate = gate_half(order);
  Shape shape = packed.shape();
  shape[shape.size() - 1] /= 2;
  const Tensor y = empty(shape, {packed.dtype(), packed.device()});
  const View in = packed.raw();
  const GatedUnit::Forward args{.kind = kind, .gate = half_of(in, gate), .value = half_of(in, 1 - gate), .y = y.raw()};
  const auto* impl = KernelTable<GatedUnit>::instance().select(args, packed.device(), needs_grad({packed}), kernel);
  if (impl == nullptr) {
    const std::int64_t n = y.size(-1);
    return glu_reference(packed.narrow(-1, gate * n, n), packed.narrow(-1, (1 - gate) * n, n), kind);
  }
  if (y.numel() > 0) impl->forward(args, stream_of(y.device()));
  return record("glu", y, {packed}, {packed}, [impl, kind, gate](BackwardContext& ctx) {
    const Tensor& packed = ctx.saved(0);
    const Tensor& dy = ctx.grad();
    const Tensor gradient = empty(packed.shape(), {packed.dtype(), packed.device()});
    if (dy.numel() > 0) {
      const View in = packed.raw();
      const View out = gradient.raw();
      impl->backward({.kind = kind,
                      .gate = half_of(in, gate),
                      .value = half_of(in, 1 - gate),
                      .dy = dy.raw(),
                      .dgate = half_of(out, gate),
                      .dvalue = half_of(out, 1 - gate)},
                     stream_of(dy.device()));
    }
    ctx.give(0, gradient);
  });
}

Tensor glu(const Tensor& gate, const Tensor& value, Glu kind, KernelChoice kernel) {
  check_floating("glu", gate);
  check_same_device("glu", gate, value);
  if (gate.dtype() != value.dtype()) {
    fail<DtypeError>("glu", "the gate is {}, the value {}; convert one with to()", gate.dtype(), value.dtype());
  }
  if (gate.shape() != value.shape()) {
    fail<ShapeError>("glu", "the gate has shape {}, the value {}; they must be equal", gate.shape(), value.shape());
  }
  const Tensor y = empty(gate.shape(), {gate.dtype(), gate.device()});
  const GatedUnit::Forward args{.kind = kind, .gate = gate.raw(), .value = value.raw(), .y = y.raw()};
  const auto* impl = KernelTable<GatedUnit>::instance().select(args, gate.device(), needs_grad({gate, value}), kernel);
  if (impl == nullptr) return glu_reference(gate, value, kind);
  if (y.numel() > 0) impl->forward(args, stream_of(y.device()));
  return record("glu", y, {gate, value}, {gate, value}, [impl, kind](BackwardContext& ctx) {
    const Tensor& dy = ctx.grad();
    Tensor gradients[2];
    GatedUnit::Backward args{.kind = kind,
                             .gate = ctx.saved(0).raw(),
                             .value = ctx.saved(1).raw(),
                             .dy = dy.raw(),
                             .dgate = {},
                             .dvalue = {}};
    View* const wanted[] = {&args.dgate, &args.dvalue};
    for (int i = 0; i < 2; ++i) {
      if (!ctx.needs(i)) continue;
      gradients[i] = empty(dy.shape(), {dy.dtype(), dy.device()});
      *wanted[i] = gradients[i].raw();
    }
    if (dy.numel() > 0) impl->backward(args, stream_of(dy.device()));
    for (int i = 0; i < 2; ++i) ctx.give(i, gradients[i]);
  });
}

}  // namespace trinix
