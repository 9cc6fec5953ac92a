// activate(), and what the fused activations compute, composed of simpler functions.
#include <cmath>
#include <limits>
#include <numbers>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/ops/unary_call.h>

namespace trinix {

namespace {

constexpr double kUnbounded = std::numeric_limits<double>::infinity();

/// max(x, 0) with the gradient 0 at 0.
Tensor positive_part(const Tensor& x) { return where(x <= 0, zeros_like(x), x); }

/// log(1 + exp(x)); from 40 on that is x to the last bit of a double.
Tensor softplus_reference(const Tensor& x) { return where(x > 40, x, log1p(exp(clamp(x, -kUnbounded, 40)))); }

/// x * weight(x), where the weight goes to 0 faster than x to -infinity, and to 1 on the other side. Far out it is the
/// limit, without an infinity in the product or its gradient.
template <class Weight>
Tensor gated(const Tensor& x, Weight weight) {
  constexpr double kFar = 800;
  const Tensor near = clamp(x, -kFar, kFar);
  return where(abs(x) > kFar, positive_part(x), near * weight(near));
}

Tensor reference(const Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return positive_part(x);
    case Activation::gelu_erf:
      return gated(x, [](const Tensor& t) { return (erf(t * (1 / std::numbers::sqrt2)) + 1) * 0.5; });
    case Activation::gelu_tanh:
      return gated(x, [](const Tensor& t) {
        return (tanh((t + t * t * t * 0.044715) * std::sqrt(2 / std::numbers::pi)) + 1) * 0.5;
      });
    case Activation::silu:
      return gated(x, [](const Tensor& t) { return sigmoid(t); });
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::tanh:
      return tanh(x);
    case Activation::softplus:
      return softplus_reference(x);
    case Activation::quick_gelu:
      return gated(x, [](const Tensor& t) { return sigmoid(t * 1.702); });
    case Activation::squared_relu:
      return square(positive_part(x));
    case Activation::mish:
      break;
  }
  return gated(x, [](const Tensor& t) { return tanh(softplus_reference(t)); });
}

}  // namespace

Tensor activate(const Tensor& x, Activation activation, KernelChoice kernel) {
  const bool wide = activation == Activation::softplus && widens({x});  // as softplus() does
  const Tensor in = wide ? widened(x) : is_floating(x.dtype()) ? x : x.to(DType::f32);
  // Unary, which many functions share, has no reference of its own; a scope that names another kernel means other ops.
  if (resolve(kernel).kernel != Kernel::reference) {
    return unary_call("activate", unary_of(activation), in, 0, 0, kernel);
  }
  detail::note_kernel(Unary::kName, "reference");
  return reference(in.to(compute_type(in.dtype())), activation).to(in.dtype());
}

}  // namespace trinix
