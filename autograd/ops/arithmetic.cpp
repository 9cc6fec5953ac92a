#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/record.h>
#include <trinix/core/ops/elementwise.h>

namespace trinix {

namespace {

/// z = fn(x, y) for operands that already agree in dtype.
Tensor run_binary(BinaryFn fn, const Operands& o) {
  const Tensor z = empty(o.shape, {o.a.dtype(), o.a.device()});
  run<Binary>({.fn = fn, .x = broadcast_view(o.a, o.shape), .y = broadcast_view(o.b, o.shape), .z = z.raw()},
              z.device());
  return z;
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  const Operands o = match("add", a, b);
  return record("add", run_binary(BinaryFn::add, o), {o.a, o.b}, {},
                [sa = o.a.shape(), sb = o.b.shape()](BackwardContext& ctx) {
                  if (ctx.needs(0)) ctx.give(0, sum_to(ctx.grad(), sa));
                  if (ctx.needs(1)) ctx.give(1, sum_to(ctx.grad(), sb));
                });
}

Tensor sub(const Tensor& a, const Tensor& b) {
  const Operands o = match("sub", a, b);
  return record("sub", run_binary(BinaryFn::sub, o), {o.a, o.b}, {},
                [sa = o.a.shape(), sb = o.b.shape()](BackwardContext& ctx) {
                  if (ctx.needs(0)) ctx.give(0, sum_to(ctx.grad(), sa));
                  if (ctx.needs(1)) ctx.give(1, -sum_to(ctx.grad(), sb));
                });
}

Tensor mul(const Tensor& a, const Tensor& b) {
  const Operands o = match("mul", a, b);
  return record("mul", run_binary(BinaryFn::mul, o), {o.a, o.b}, {o.a, o.b}, [](BackwardContext& ctx) {
    const Tensor& x = ctx.saved(0);
    const Tensor& y = ctx.saved(1);
    if (ctx.needs(0)) ctx.give(0, sum_to(ctx.grad() * y, x.shape()));
    if (ctx.needs(1)) ctx.give(1, sum_to(ctx.grad() * x, y.shape()));
  });
}

Tensor div(const Tensor& a, const Tensor& b) {
  const Operands o = match_floating("div", a, b);
  const Tensor z = run_binary(BinaryFn::div, o);
  return record("div", z, {o.a, o.b}, {o.a, o.b, z}, [](BackwardContext& ctx) {
    const Tensor& y = ctx.saved(1);
    const Tensor dx = ctx.grad() / y;
    if (ctx.needs(0)) ctx.give(0, sum_to(dx, ctx.saved(0).shape()));
    if (ctx.needs(1)) ctx.give(1, -sum_to(dx * ctx.saved(2), y.shape()));
  });
}

Tensor pow(const Tensor& a, const Tensor& b) {
  if (widens({a, b})) return pow(widened(a), widened(b));
  const Operands o = match_floating("pow", a, b);
  const Tensor z = run_binary(BinaryFn::pow, o);
  return record("pow", z, {o.a, o.b}, {o.a, o.b, z}, [](BackwardContext& ctx) {
    const Tensor& x = ctx.saved(0);
    const Tensor& y = ctx.saved(1);
    const Tensor& z = ctx.saved(2);
    if (ctx.needs(0)) {
      // y x^(y-1), and 0 where y is 0 even if x^(y-1) is infinite
      const Tensor slope = where(y == 0, zeros_like(y), y) * pow(x, y - 1);
      ctx.give(0, sum_to(ctx.grad() * where(y == 0, zeros_like(slope), slope), x.shape()));
    }
    if (ctx.needs(1)) {
      const Tensor slope = where(x == 0, zeros_like(z), z * log(x));
      ctx.give(1, sum_to(ctx.grad() * slope, y.shape()));
    }
  });
}

namespace {

/// maximum and minimum: the gradient goes to the chosen operand, half to each where they are equal.
Tensor extremum(const char* op, BinaryFn fn, const Tensor& a, const Tensor& b) {
  const Operands o = match(op, a, b);
  const Tensor z = run_binary(fn, o);
  return record(op, z, {o.a, o.b}, {o.a, o.b, z}, [](BackwardContext& ctx) {
    const Tensor half = ctx.grad() * 0.5;
    for (int i = 0; i < 2; ++i) {
      if (!ctx.needs(i)) continue;
      const Tensor& mine = ctx.saved(i);
      const Tensor& other = ctx.saved(1 - i);
      const Tensor share = where(mine == other, half, ctx.grad());
      ctx.give(i, sum_to(where(mine == ctx.saved(2), share, zeros_like(share)), mine.shape()));
    }
  });
}

}  // namespace

Tensor maximum(const Tensor& a, const Tensor& b) { return extremum("maximum", BinaryFn::maximum, a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return extremum("minimum", BinaryFn::minimum, a, b); }

Tensor sum_to(const Tensor& t, const Shape& shape) {
  if (t.shape() == shape) return t;
  const int extra = t.rank() - shape.size();
  Dims dims;
  for (int i = 0; i < t.rank(); ++i) {
    if (i < extra || (shape[i - extra] == 1 && t.shape()[i] != 1)) dims.push_back(i);
  }
  const Tensor summed = dims.empty() ? t : sum(t, dims, /*keepdim=*/true);
  return summed.reshape(shape);
}

}  // namespace trinix
