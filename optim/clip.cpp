#include <algorithm>
#include <cmath>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/grad_norm.h>
#include <trinix/optim/clip.h>
#include <trinix/optim/flat.h>

namespace trinix::optim {

using detail::fail;

namespace {

std::vector<Tensor> gradients_of(const std::vector<Tensor>& parameters) {
  std::vector<Tensor> gradients;
  for (const Tensor& p : parameters) {
    Tensor gradient = p.grad();
    if (gradient.defined() && gradient.numel() > 0) gradients.push_back(std::move(gradient));
  }
  return gradients;
}

double norm_of(std::vector<Tensor> gradients) {
  double sum_of_squares = 0;
  // Device by device; usually there is one.
  while (!gradients.empty()) {
    const Device device = gradients.front().device();
    std::vector<Flat> here;
    std::vector<Tensor> elsewhere, dense;
    for (const Tensor& g : gradients) {
      if (g.device() == device) {
        here.push_back(flat(dense.emplace_back(g.contiguous())));
      } else {
        elsewhere.push_back(g);
      }
    }
    const Tensor norm = empty({1}, {DType::f64, device});
    run<GradNorm>({.tensors = here, .out = norm.raw()}, device);
    const double value = norm.item<double>();
    if (elsewhere.empty() && sum_of_squares == 0) return value;
    sum_of_squares += value * value;
    gradients = std::move(elsewhere);
  }
  return std::sqrt(sum_of_squares);
}

}  // namespace

Tensor grad_norm_tensor(const std::vector<Tensor>& parameters) {
  const Device device = parameters.empty() ? Device{} : parameters.front().device();
  std::vector<Flat> tensors;
  std::vector<Tensor> dense;
  for (const Tensor& g : gradients_of(parameters)) {
    if (g.device() != device) {
      fail<DeviceError>("grad_norm", "one gradient is on {}, another on {}: take the norm with grad_norm()", device,
                        g.device());
    }
    tensors.push_back(flat(dense.emplace_back(g.contiguous())));
  }
  const Tensor norm = empty({}, {DType::f64, device});
  run<GradNorm>({.tensors = tensors, .out = norm.raw()}, device);
  return norm;
}

double grad_norm(const std::vector<Tensor>& parameters) { return norm_of(gradients_of(parameters)); }

double clip_scale(double norm, double max_norm) {
  if (!(max_norm > 0)) fail<ConfigError>("clip_grad_norm_", "max_norm is {}, but must be positive", max_norm);
  return std::min(1.0, max_norm / (norm + 1e-6));
}

double clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm) {
  const NoGrad no_grad;
  const std::vector<Tensor> gradients = gradients_of(parameters);
  const double norm = norm_of(gradients);
  const double scale = clip_scale(norm, max_norm);
  if (std::isfinite(norm) && scale < 1) {
    for (const Tensor& g : gradients) mul_(g, scale);
  }
  return norm;
}

void clip_grad_value_(const std::vector<Tensor>& parameters, double limit) {
  if (!(limit > 0)) fail<ConfigError>("clip_grad_value_", "the limit is {}, but must be positive", limit);
  const NoGrad no_grad;
  for (const Tensor& g : gradients_of(parameters)) clamp_(g, -limit, limit);
}

}  // namespace trinix::optim
