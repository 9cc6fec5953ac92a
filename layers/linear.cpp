#include <cmath>
#include <utility>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/linalg.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/linear.h>

namespace trinix::nn {

using detail::fail;

Linear::Linear(const LinearOptions& o) {
  if (o.in_features < 1 || o.out_features < 1) {
    fail<ConfigError>("Linear", "in_features {} and out_features {} must be positive", o.in_features, o.out_features);
  }
  const NoGrad no_grad;
  weight_ = empty({o.out_features, o.in_features}, o.tensor);
  if (o.bias) bias_ = empty({o.out_features}, o.tensor);
  if (o.init_std) {
    normal_(weight_, 0, *o.init_std, o.generator);
    if (o.bias) bias_ = zeros({o.out_features}, o.tensor);
  } else {
    const double bound = 1 / std::sqrt(static_cast<double>(o.in_features));
    uniform_(weight_, -bound, bound, o.generator);
    if (o.bias) uniform_(bias_, -bound, bound, o.generator);
  }
  register_parameter("weight", weight_);
  if (o.bias) register_parameter("bias", bias_);
}

Linear::Linear(Tensor weight, Tensor bias) : weight_(std::move(weight)), bias_(std::move(bias)) {
  if (weight_.rank() != 2 || (bias_.defined() && bias_.shape() != Shape{weight_.shape()[0]})) {
    fail<ShapeError>("Linear", "a weight (out, in) and a bias (out) are needed, got {} and {}", weight_.shape(),
                     bias_.defined() ? bias_.shape().to_string() : "none");
  }
  register_parameter("weight", weight_);
  if (bias_.defined()) register_parameter("bias", bias_);
}

Tensor Linear::forward(const Tensor& x) const { return linear(x, weight_, bias_); }

}  // namespace trinix::nn
