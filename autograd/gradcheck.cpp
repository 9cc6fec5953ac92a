#include <cmath>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/gradcheck.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/philox.h>

namespace trinix {

using detail::fail;

namespace {

void check_input(const Tensor& t, std::size_t i) {
  if (t.dtype() != DType::f64) {
    fail<DtypeError>("gradcheck", "input {} is {}; finite differences need f64", i, t.dtype());
  }
  if (!t.device().is_cpu()) fail<DeviceError>("gradcheck", "input {} is on {}; move it to cpu", i, t.device());
  if (!t.is_leaf()) fail<AutogradError>("gradcheck", "input {} is not a leaf; detach() it", i);
  for (int d = 0; d < t.rank(); ++d) {
    if (t.shape()[d] > 1 && t.strides()[d] == 0) {
      fail<AutogradError>("gradcheck", "input {} of shape {} repeats elements; expand() it inside the function", i,
                          t.shape());
    }
  }
}

/// Address of element `index` in row-major order.
double* address(const Tensor& t, std::int64_t index) {
  std::int64_t offset = 0;
  for (int d = t.rank() - 1; d >= 0; --d) {
    offset += index % t.shape()[d] * t.strides()[d];
    index /= t.shape()[d];
  }
  return t.data<double>() + offset;
}

/// Weights in [-1, 1), the same in every run.
std::vector<double> random_weights(std::size_t n, int projection) {
  std::vector<double> w(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto block = philox(0x7472696e6978ULL + static_cast<unsigned>(projection), i);
    w[i] = 2.0 * uniform_from_bits(block.x[0]) - 1.0;
  }
  return w;
}

double weighted_sum(const Tensor& output, const std::vector<double>& weights) {
  const std::vector<double> values = output.to_doubles();
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    // A weight times an infinity that both sides of the difference share would make NaN of a good gradient.
    if (std::isfinite(values[i])) sum += weights[i] * values[i];
  }
  return sum;
}

}  // namespace

GradcheckReport gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& function,
                          const std::vector<Tensor>& inputs, const GradcheckOptions& options) {
  std::vector<Tensor> checked;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].requires_grad()) continue;
    check_input(inputs[i], i);
    checked.push_back(inputs[i]);
  }
  const EnableGrad recording;
  for (int p = 0; p < options.projections; ++p) {
    const Tensor output = function(inputs);
    if (!output.requires_grad()) return {false, "the output does not require grad"};
    const auto weights = random_weights(static_cast<std::size_t>(output.numel()), p);
    const Tensor direction = from_vector(weights, output.shape()).to(output.dtype());
    const auto analytic = grad(output, checked, direction, {.retain_graph = true}, /*allow_unused=*/true);
    const auto again = grad(output, checked, direction, {}, /*allow_unused=*/true);
    for (std::size_t i = 0; i < checked.size(); ++i) {
      if (!analytic[i].defined()) return {false, detail::format("input {} received no gradient", i)};
      const auto values = analytic[i].to_doubles();
      if (values != again[i].to_doubles()) {
        return {false, detail::format("two runs of the backward gave different gradients for input {}", i)};
      }
      const NoGrad no_grad;
      for (std::int64_t e = 0; e < checked[i].numel(); ++e) {
        double* x = address(checked[i], e);
        const double original = *x;
        *x = original + options.eps;
        const double above = weighted_sum(function(inputs), weights);
        *x = original - options.eps;
        const double below = weighted_sum(function(inputs), weights);
        *x = original;
        const double numeric = (above - below) / (2 * options.eps);
        const double value = values[static_cast<std::size_t>(e)];
        if (!(std::abs(value - numeric) <= options.atol + options.rtol * std::abs(numeric))) {
          return {false,
                  detail::format("input {} of shape {}, element {}: the backward gives {}, finite differences {}", i,
                                 checked[i].shape(), e, value, numeric)};
        }
      }
    }
  }
  return {};
}

}  // namespace trinix
