// The forms of arithmetic.h with one tensor and one number.
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/ops/unary_call.h>

namespace trinix {

namespace {
Tensor call(const char* op, UnaryFn fn, const Tensor& x, Scalar s) {
  return unary_call(op, fn, x.to(promote(x.dtype(), s)), s);
}
/// -s, of the same category.
Scalar negative(const Scalar& s) { return s.kind() == DType::f64 ? Scalar(-s.to_double()) : Scalar(-s.to_int()); }
}  // namespace

Tensor add(const Tensor& a, Scalar b) { return call("add", UnaryFn::add_scalar, a, b); }
Tensor sub(const Tensor& a, Scalar b) { return call("sub", UnaryFn::add_scalar, a, negative(b)); }
Tensor sub(Scalar a, const Tensor& b) { return call("sub", UnaryFn::rsub_scalar, b, a); }
Tensor mul(const Tensor& a, Scalar b) { return call("mul", UnaryFn::mul_scalar, a, b); }
Tensor div(const Tensor& a, Scalar b) { return floating_unary_call("div", UnaryFn::div_scalar, a, b); }
Tensor div(Scalar a, const Tensor& b) { return floating_unary_call("div", UnaryFn::rdiv_scalar, b, a); }

Tensor pow(const Tensor& a, Scalar b) {
  if (widens({a})) return pow(widened(a), b);
  // The powers that occur most have functions of their own, many times faster than the general one.
  const double exponent = b.to_double();
  if (exponent == 2) return floating_unary_call("pow", UnaryFn::square, a);
  if (exponent == 0.5) return floating_unary_call("pow", UnaryFn::sqrt, a);
  if (exponent == -0.5) return floating_unary_call("pow", UnaryFn::rsqrt, a);
  if (exponent == -1) return floating_unary_call("pow", UnaryFn::reciprocal, a);
  return floating_unary_call("pow", UnaryFn::pow_scalar, a, b);
}

}  // namespace trinix
