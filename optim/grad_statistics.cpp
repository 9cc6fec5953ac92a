#include <cmath>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/joining.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/optim/grad_statistics.h>

namespace trinix::optim {

namespace {

/// Norm, largest absolute value, number of zeros and of elements that are not finite, as one f64 tensor (4).
Tensor measure(const Tensor& gradient) {
  const Tensor wide = gradient.to(compute_type(gradient.dtype()));
  const Tensor parts[] = {norm(wide), max(abs(wide)), sum(wide == 0), sum(logical_not(isfinite(wide)))};
  std::vector<Tensor> numbers;
  for (const Tensor& part : parts) numbers.push_back(part.to(DType::f64));
  return stack(numbers);
}

}  // namespace

std::vector<GradStatistics> grad_statistics(const std::vector<NamedTensor>& parameters, double scale) {
  const NoGrad no_grad;
  std::vector<GradStatistics> all;
  std::vector<Tensor> measured;  // undefined for a gradient without elements
  for (const auto& [name, parameter] : parameters) {
    const Tensor gradient = parameter.grad();
    if (!gradient.defined()) continue;
    all.push_back({.name = name});
    measured.push_back(gradient.numel() == 0 ? zeros({4}, {DType::f64, gradient.device()}) : measure(gradient));
  }
  if (all.empty()) return all;
  const Device device = measured.front().device();
  for (Tensor& numbers : measured) numbers = numbers.to(device);
  const std::vector<double> values = stack(measured).to_vector<double>();
  std::size_t next = 0;
  for (const auto& [name, parameter] : parameters) {
    if (!parameter.grad().defined()) continue;
    GradStatistics& s = all[next];
    const double* const v = values.data() + 4 * next++;
    const double count = std::max<double>(static_cast<double>(parameter.numel()), 1);
    s.norm = v[0] / scale;
    s.max_abs = v[1] / scale;
    s.zeros = v[2] / count;
    s.non_finite = v[3] / count;
  }
  return all;
}

}  // namespace trinix::optim
