#include <trinix/autograd/ops/norm.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/norm.h>

namespace trinix::nn {

LayerNorm::LayerNorm(const LayerNormOptions& o) : eps_(o.eps), kernel_(o.kernel) {
  if (o.features < 1 || !(o.eps > 0)) {
    detail::fail<ConfigError>("LayerNorm", "features {} and eps {} must be positive", o.features, o.eps);
  }
  if (!o.affine) return;
  weight_ = register_parameter("weight", ones({o.features}, o.tensor));
  if (o.bias) bias_ = register_parameter("bias", zeros({o.features}, o.tensor));
}

Tensor LayerNorm::forward(const Tensor& x) const { return layer_norm(x, weight_, bias_, eps_, kernel_); }

std::pair<Tensor, Tensor> LayerNorm::add_and_norm(const Tensor& x, const Tensor& delta) const {
  if (!delta.defined()) return {x, forward(x)};
  return add_layer_norm(x, delta, weight_, bias_, eps_, kernel_);
}

}  // namespace trinix::nn
