#include <limits>

#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/ops/unary_call.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

using detail::fail;

Tensor unary_call(const char* op, UnaryFn fn, const Tensor& x, Scalar a, Scalar b, KernelChoice kernel) {
  if (x.dtype() == DType::boolean) {
    fail<DtypeError>(op, "takes numbers, got bool of shape {}; convert it with to()", x.shape());
  }
  const Tensor y = empty_like(x);
  const Unary::Forward args{.fn = fn, .x = x.raw(), .y = y.raw(), .a = a, .b = b};
  const auto* impl = KernelTable<Unary>::instance().select(args, x.device(), needs_grad({x}), kernel);
  if (y.numel() > 0) impl->forward(args, stream_of(x.device()));
  const UnarySaved saved = saved_by(fn);
  const Tensor kept = saved == UnarySaved::x ? x : saved == UnarySaved::y ? y : Tensor();
  return record(op, y, {x}, {kept}, [impl, fn, a, b](BackwardContext& ctx) {
    const Tensor& dy = ctx.grad();
    const Tensor& kept = ctx.saved(0);
    const Tensor dx = empty_like(dy);
    if (dx.numel() > 0) {
      const View saved = kept.defined() ? kept.raw() : View{};
      impl->backward({.fn = fn, .saved = saved, .dy = dy.raw(), .dx = dx.raw(), .a = a, .b = b},
                     stream_of(dx.device()));
    }
    ctx.give(0, dx);
  });
}

namespace {

/// Functions that run in f32 within an Autocast scope: those that amplify rounding or leave the range of f16.
bool needs_digits(UnaryFn fn) {
  switch (fn) {
    case UnaryFn::rdiv_scalar:
    case UnaryFn::exp:
    case UnaryFn::expm1:
    case UnaryFn::log:
    case UnaryFn::log1p:
    case UnaryFn::log2:
    case UnaryFn::reciprocal:
    case UnaryFn::rsqrt:
    case UnaryFn::tan:
    case UnaryFn::softplus:
      return true;
    default:
      return false;
  }
}

}  // namespace

Tensor floating_unary_call(const char* op, UnaryFn fn, const Tensor& x, Scalar a, Scalar b) {
  if (needs_digits(fn) && widens({x})) return unary_call(op, fn, widened(x), a, b);
  return unary_call(op, fn, is_floating(x.dtype()) ? x : x.to(DType::f32), a, b);
}

Tensor neg(const Tensor& x) { return unary_call("neg", UnaryFn::neg, x); }
Tensor abs(const Tensor& x) { return unary_call("abs", UnaryFn::abs, x); }
Tensor sign(const Tensor& x) { return unary_call("sign", UnaryFn::sign, x); }
Tensor square(const Tensor& x) { return unary_call("square", UnaryFn::square, x); }

Tensor clamp(const Tensor& x, Scalar low, Scalar high) {
  return unary_call("clamp", UnaryFn::clamp, x.to(promote(promote(x.dtype(), low), high)), low, high);
}

Tensor logical_not(const Tensor& x) {
  const Tensor in = x.dtype() == DType::boolean ? x.detach() : x.detach().to(DType::boolean);
  const Tensor y = empty_like(in);
  if (y.numel() > 0) run<Unary>({.fn = UnaryFn::logical_not, .x = in.raw(), .y = y.raw()}, y.device());
  return y;
}

Tensor exp(const Tensor& x) { return floating_unary_call("exp", UnaryFn::exp, x); }
Tensor expm1(const Tensor& x) { return floating_unary_call("expm1", UnaryFn::expm1, x); }
Tensor log(const Tensor& x) { return floating_unary_call("log", UnaryFn::log, x); }
Tensor log1p(const Tensor& x) { return floating_unary_call("log1p", UnaryFn::log1p, x); }
Tensor log2(const Tensor& x) { return floating_unary_call("log2", UnaryFn::log2, x); }
Tensor sqrt(const Tensor& x) { return floating_unary_call("sqrt", UnaryFn::sqrt, x); }
Tensor rsqrt(const Tensor& x) { return floating_unary_call("rsqrt", UnaryFn::rsqrt, x); }
Tensor reciprocal(const Tensor& x) { return floating_unary_call("reciprocal", UnaryFn::reciprocal, x); }
Tensor sin(const Tensor& x) { return floating_unary_call("sin", UnaryFn::sin, x); }
Tensor cos(const Tensor& x) { return floating_unary_call("cos", UnaryFn::cos, x); }
Tensor tan(const Tensor& x) { return floating_unary_call("tan", UnaryFn::tan, x); }
Tensor tanh(const Tensor& x) { return floating_unary_call("tanh", UnaryFn::tanh, x); }
Tensor sigmoid(const Tensor& x) { return floating_unary_call("sigmoid", UnaryFn::sigmoid, x); }
Tensor erf(const Tensor& x) { return floating_unary_call("erf", UnaryFn::erf, x); }
Tensor floor(const Tensor& x) { return floating_unary_call("floor", UnaryFn::floor, x); }
Tensor ceil(const Tensor& x) { return floating_unary_call("ceil", UnaryFn::ceil, x); }
Tensor round(const Tensor& x) { return floating_unary_call("round", UnaryFn::round, x); }
Tensor trunc(const Tensor& x) { return floating_unary_call("trunc", UnaryFn::trunc, x); }

namespace {
/// Whether |x| (relation) infinity; integers and booleans are finite.
Tensor compare_with_infinity(const Tensor& x, bool finite) {
  if (!is_floating(x.dtype())) return full(x.shape(), finite, {DType::boolean, x.device()});
  const Tensor magnitude = abs(x.detach());
  const double infinity = std::numeric_limits<double>::infinity();
  return finite ? magnitude < infinity : magnitude == infinity;
}
}  // namespace

Tensor isnan(const Tensor& x) { return x.detach() != x.detach(); }
Tensor isinf(const Tensor& x) { return compare_with_infinity(x, false); }
Tensor isfinite(const Tensor& x) { return compare_with_infinity(x, true); }

Tensor relu(const Tensor& x) { return floating_unary_call("relu", UnaryFn::relu, x); }
Tensor leaky_relu(const Tensor& x, double negative_slope) {
  return floating_unary_call("leaky_relu", UnaryFn::leaky_relu, x, negative_slope);
}
Tensor elu(const Tensor& x, double alpha) { return floating_unary_call("elu", UnaryFn::elu, x, alpha); }
Tensor silu(const Tensor& x) { return floating_unary_call("silu", UnaryFn::silu, x); }
Tensor softplus(const Tensor& x) { return floating_unary_call("softplus", UnaryFn::softplus, x); }
Tensor gelu(const Tensor& x, Gelu form) {
  return floating_unary_call("gelu", form == Gelu::erf ? UnaryFn::gelu_erf : UnaryFn::gelu_tanh, x);
}
Tensor quick_gelu(const Tensor& x) { return floating_unary_call("quick_gelu", UnaryFn::quick_gelu, x); }
Tensor squared_relu(const Tensor& x) { return floating_unary_call("squared_relu", UnaryFn::squared_relu, x); }
Tensor mish(const Tensor& x) { return floating_unary_call("mish", UnaryFn::mish, x); }

}  // namespace trinix
