#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/elementwise.h>

namespace trinix {

namespace {

Tensor compare(const char* op, Relation relation, const Tensor& a, const Tensor& b) {
  const NoGrad no_grad;  // the result is boolean, conversions need no history
  const Operands o = match(op, a, b);
  const Tensor z = empty(o.shape, {DType::boolean, o.a.device()});
  if (z.numel() > 0) {
    run<Compare>({relation, broadcast_view(o.a, o.shape), broadcast_view(o.b, o.shape), z.raw()}, z.device());
  }
  return z;
}

Tensor compare(const char* op, Relation relation, const Tensor& a, Scalar b) {
  return compare(op, relation, a, full({}, b, {promote(a.dtype(), b), a.device()}));
}

Tensor logical(const char* op, BinaryFn fn, const Tensor& a, const Tensor& b) {
  const NoGrad no_grad;
  const Operands o = match(op, a.to(DType::boolean), b.to(DType::boolean));
  const Tensor z = empty(o.shape, {DType::boolean, o.a.device()});
  if (z.numel() > 0) {
    run<Binary>({fn, broadcast_view(o.a, o.shape), broadcast_view(o.b, o.shape), z.raw()}, z.device());
  }
  return z;
}

void check_condition(const char* op, const Tensor& condition) {
  if (condition.dtype() != DType::boolean) {
    detail::fail<DtypeError>(op, "the condition must be bool, got {} of shape {}; compare it with a number first",
                             condition.dtype(), condition.shape());
  }
}

}  // namespace

Tensor operator==(const Tensor& a, const Tensor& b) { return compare("equal", Relation::equal, a, b); }
Tensor operator!=(const Tensor& a, const Tensor& b) { return compare("not_equal", Relation::not_equal, a, b); }
Tensor operator<(const Tensor& a, const Tensor& b) { return compare("less", Relation::less, a, b); }
Tensor operator<=(const Tensor& a, const Tensor& b) { return compare("less_equal", Relation::less_equal, a, b); }
Tensor operator>(const Tensor& a, const Tensor& b) { return compare("greater", Relation::greater, a, b); }
Tensor operator>=(const Tensor& a, const Tensor& b) { return compare("greater_equal", Relation::greater_equal, a, b); }
Tensor operator==(const Tensor& a, Scalar b) { return compare("equal", Relation::equal, a, b); }
Tensor operator!=(const Tensor& a, Scalar b) { return compare("not_equal", Relation::not_equal, a, b); }
Tensor operator<(const Tensor& a, Scalar b) { return compare("less", Relation::less, a, b); }
Tensor operator<=(const Tensor& a, Scalar b) { return compare("less_equal", Relation::less_equal, a, b); }
Tensor operator>(const Tensor& a, Scalar b) { return compare("greater", Relation::greater, a, b); }
Tensor operator>=(const Tensor& a, Scalar b) { return compare("greater_equal", Relation::greater_equal, a, b); }

Tensor logical_and(const Tensor& a, const Tensor& b) { return logical("logical_and", BinaryFn::logical_and, a, b); }
Tensor logical_or(const Tensor& a, const Tensor& b) { return logical("logical_or", BinaryFn::logical_or, a, b); }
Tensor logical_xor(const Tensor& a, const Tensor& b) { return logical("logical_xor", BinaryFn::logical_xor, a, b); }

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check_condition("where", condition);
  check_same_device("where", condition, a);
  Operands o = match("where", a, b);
  o.shape = broadcast_shapes("where", condition.shape(), o.shape);
  const Tensor z = empty(o.shape, {o.a.dtype(), o.a.device()});
  if (z.numel() > 0) {
    run<Where>(
        {broadcast_view(condition, o.shape), broadcast_view(o.a, o.shape), broadcast_view(o.b, o.shape), z.raw()},
        z.device());
  }
  return record("where", z, {o.a, o.b}, {condition}, [sa = o.a.shape(), sb = o.b.shape()](BackwardContext& ctx) {
    const Tensor& condition = ctx.saved(0);
    const Tensor zero = zeros({}, {ctx.grad().dtype(), ctx.grad().device()});
    if (ctx.needs(0)) ctx.give(0, sum_to(where(condition, ctx.grad(), zero), sa));
    if (ctx.needs(1)) ctx.give(1, sum_to(where(condition, zero, ctx.grad()), sb));
  });
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, Scalar value) {
  check_condition("masked_fill", mask);
  return where(mask, full({}, value, {promote(x.dtype(), value), x.device()}), x);
}

}  // namespace trinix
