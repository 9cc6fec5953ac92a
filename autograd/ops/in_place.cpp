// The in-place forms of arithmetic.h and unary.h.
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/elementwise.h>
#include <trinix/core/ops/fill.h>

namespace trinix {

using detail::fail;

namespace {

Tensor fitting_operand(const char* op, const Tensor& a, const Tensor& b) {
  check_same_device(op, a, b);
  if (broadcast_shapes(op, a.shape(), b.shape()) != a.shape()) {
    fail<ShapeError>(op, "shape {} does not broadcast to {}, the shape of the tensor that is changed in place",
                     b.shape(), a.shape());
  }
  if (promote(a.dtype(), b.dtype()) != a.dtype() && is_floating(b.dtype()) && !is_floating(a.dtype())) {
    fail<DtypeError>(op, "a {} result does not fit in place into a tensor of {}", b.dtype(), a.dtype());
  }
  return b.to(a.dtype());
}

void write_binary(BinaryFn fn, const Tensor& a, const Tensor& b) {
  if (a.numel() == 0) return;
  run<Binary>({.fn = fn, .x = a.raw(), .y = broadcast_view(b, a.shape()), .z = a.raw()}, a.device());
}

void write_unary(UnaryFn fn, const Tensor& a, const Scalar& s) {
  if (a.numel() == 0) return;
  run<Unary>({.fn = fn, .x = a.raw(), .y = a.raw(), .a = s}, a.device());
}

void check_scalar_fits(const char* op, const Tensor& a, const Scalar& s) {
  if (promote(a.dtype(), s) != a.dtype()) {
    fail<DtypeError>(op, "a floating-point number does not fit in place into a tensor of {}", a.dtype());
  }
}

}  // namespace

const Tensor& add_(const Tensor& a, const Tensor& b) {
  const Tensor c = fitting_operand("add_", a, b);
  record_in_place(
      "add_", a, {a, c}, {}, [&] { write_binary(BinaryFn::add, a, c); },
      [shape = c.shape()](BackwardContext& ctx) {
        if (ctx.needs(0)) ctx.give(0, ctx.grad());
        if (ctx.needs(1)) ctx.give(1, sum_to(ctx.grad(), shape));
      });
  return a;
}

const Tensor& sub_(const Tensor& a, const Tensor& b) {
  const Tensor c = fitting_operand("sub_", a, b);
  record_in_place(
      "sub_", a, {a, c}, {}, [&] { write_binary(BinaryFn::sub, a, c); },
      [shape = c.shape()](BackwardContext& ctx) {
        if (ctx.needs(0)) ctx.give(0, ctx.grad());
        if (ctx.needs(1)) ctx.give(1, -sum_to(ctx.grad(), shape));
      });
  return a;
}

const Tensor& mul_(const Tensor& a, const Tensor& b) {
  const Tensor c = fitting_operand("mul_", a, b);
  // The old values are about to be lost; they matter only to the gradient of b.
  const Tensor old = needs_grad({c}) ? a.detach().clone() : Tensor();
  record_in_place(
      "mul_", a, {a, c}, {old, c}, [&] { write_binary(BinaryFn::mul, a, c); },
      [shape = c.shape()](BackwardContext& ctx) {
        if (ctx.needs(0)) ctx.give(0, ctx.grad() * ctx.saved(1));
        if (ctx.needs(1)) ctx.give(1, sum_to(ctx.grad() * ctx.saved(0), shape));
      });
  return a;
}

const Tensor& add_(const Tensor& a, Scalar b) {
  check_scalar_fits("add_", a, b);
  record_in_place(
      "add_", a, {a}, {}, [&] { write_unary(UnaryFn::add_scalar, a, b); },
      [](BackwardContext& ctx) { ctx.give(0, ctx.grad()); });
  return a;
}

const Tensor& mul_(const Tensor& a, Scalar b) {
  check_scalar_fits("mul_", a, b);
  record_in_place(
      "mul_", a, {a}, {}, [&] { write_unary(UnaryFn::mul_scalar, a, b); },
      [b](BackwardContext& ctx) { ctx.give(0, ctx.grad() * b); });
  return a;
}

namespace {
const Tensor& overwrite(const char* op, const Tensor& x, Scalar value) {
  // The old values do not matter to the result, so they get no gradient: the op has no inputs.
  record_in_place(
      op, x, {}, {},
      [&] {
        if (x.numel() > 0) run<Fill>({.out = x.raw(), .value = value}, x.device());
      },
      [](BackwardContext&) {});
  return x;
}
}  // namespace

const Tensor& zero_(const Tensor& x) { return overwrite("zero_", x, 0); }

const Tensor& fill_(const Tensor& x, Scalar value) {
  if (value.kind() == DType::f64) check_scalar_fits("fill_", x, value);
  return overwrite("fill_", x, value);
}

const Tensor& clamp_(const Tensor& x, Scalar low, Scalar high) {
  check_scalar_fits("clamp_", x, low);
  check_scalar_fits("clamp_", x, high);
  const Tensor old = needs_grad({x}) ? x.detach().clone() : Tensor();
  record_in_place(
      "clamp_", x, {x}, {old},
      [&] {
        if (x.numel() == 0) return;
        run<Unary>({.fn = UnaryFn::clamp, .x = x.raw(), .y = x.raw(), .a = low, .b = high}, x.device());
      },
      [low, high](BackwardContext& ctx) {
        const Tensor& old = ctx.saved(0);
        ctx.give(0, masked_fill(ctx.grad(), logical_or(old<low, old> high), 0));
      });
  return x;
}

}  // namespace trinix
