#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/norm.h>

namespace trinix::nn {

namespace {

void check_options(const char* layer, std::int64_t features, double eps) {
  if (features < 1 || !(eps > 0)) {
    detail::fail<ConfigError>(layer, "features {} and eps {} must be positive", features, eps);
  }
}

}  // namespace

LayerNorm::LayerNorm(const LayerNormOptions& o) : eps_(o.eps), kernel_(o.kernel) {
  check_options("LayerNorm", o.features, o.eps);
  if (!o.affine) return;
  weight_ = register_parameter("weight", ones({o.features}, o.tensor));
  if (o.bias) bias_ = register_parameter("bias", zeros({o.features}, o.tensor));
}

Tensor LayerNorm::forward(const Tensor& x) const { return layer_norm(x, weight_, bias_, eps_, kernel_); }

std::pair<Tensor, Tensor> LayerNorm::add_and_norm(const Tensor& x, const Tensor& delta, BranchDropout dropout) const {
  if (!delta.defined()) return {x, forward(x)};
  return add_layer_norm(x, delta, weight_, bias_, eps_, kernel_, dropout);
}

RMSNorm::RMSNorm(const RMSNormOptions& o) : eps_(o.eps), kernel_(o.kernel) {
  check_options("RMSNorm", o.features, o.eps);
  if (o.weight) weight_ = register_parameter("weight", ones({o.features}, o.tensor));
  if (o.bias) bias_ = register_parameter("bias", zeros({o.features}, o.tensor));
}

Tensor RMSNorm::forward(const Tensor& x) const { return rms_norm(x, weight_, bias_, eps_, kernel_); }

std::pair<Tensor, Tensor> RMSNorm::add_and_norm(const Tensor& x, const Tensor& delta, BranchDropout dropout) const {
  if (!delta.defined()) return {x, forward(x)};
  return add_rms_norm(x, delta, weight_, bias_, eps_, kernel_, dropout);
}

Tensor RMSNorm::norm_and_activate(const Tensor& x, Activation activation) const {
  return rms_norm_activation(x, weight_, bias_, activation, eps_, kernel_);
}

}  // namespace trinix::nn
