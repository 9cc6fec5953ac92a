#include <algorithm>
#include <array>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/optim/newton_schulz.h>

namespace trinix::optim {

using detail::fail;

namespace {

constexpr QuinticStep kQuintic = {3.4445, -4.7750, 2.0315};

/// The Polar Express for singular values from 1e-3, with the safety factor of its authors worked in.
constexpr std::array<QuinticStep, 5> kPolarExpress = {{
    {8.156554524902461, -22.48329292557795, 15.878769915207462},
    {4.042929935166739, -2.808917465908714, 0.5000178451051316},
    {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
    {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
    {2.3465413258596377, -1.7097828382687081, 0.42323551169305323},
}};

/// The iteration out of ordinary ops.
void compose(const Tensor& x, const Tensor& out, const std::vector<QuinticStep>& steps) {
  Tensor now = x;
  const bool wide = x.size(1) <= x.size(2);
  for (const QuinticStep& step : steps) {
    const Tensor flipped = now.transpose(1, 2);
    const Tensor a = wide ? matmul(now, flipped) : matmul(flipped, now);
    const Tensor b = a * step.b + matmul(a, a) * step.c;
    now = now * step.a + (wide ? matmul(b, now) : matmul(now, b));
  }
  out.copy_(now);
}

}  // namespace

std::vector<QuinticStep> newton_schulz_steps(NewtonSchulzCoefficients coefficients, int steps) {
  if (steps < 1 || steps > 100) fail<ConfigError>("newton_schulz", "steps is {}, but must lie in [1, 100]", steps);
  std::vector<QuinticStep> list;
  for (int i = 0; i < steps; ++i) {
    switch (coefficients) {
      case NewtonSchulzCoefficients::quintic:
        list.push_back(kQuintic);
        break;
      case NewtonSchulzCoefficients::polar_express:
        list.push_back(kPolarExpress[std::min<std::size_t>(static_cast<std::size_t>(i), kPolarExpress.size() - 1)]);
        break;
      default:
        fail<ConfigError>("newton_schulz", "there are no coefficients number {}", static_cast<int>(coefficients));
    }
  }
  return list;
}

double newton_schulz_margin(NewtonSchulzCoefficients coefficients) {
  return coefficients == NewtonSchulzCoefficients::polar_express ? 1.02 : 1;
}

void newton_schulz_(const Tensor& x, const Tensor& out, const Tensor& work, const NewtonSchulzOptions& options) {
  const NoGrad no_grad;
  const std::vector<QuinticStep> steps = newton_schulz_steps(options.coefficients, options.steps);
  const NewtonSchulz::Forward args{.x = x.raw(), .out = out.raw(), .work = work.raw(), .steps = steps};
  const auto* impl = KernelTable<NewtonSchulz>::instance().select(args, x.device(), false, options.kernel);
  if (impl == nullptr) return compose(x, out, steps);
  impl->forward(args, stream_of(x.device()));
}

Tensor newton_schulz(const Tensor& x, const NewtonSchulzOptions& options) {
  if (x.rank() < 2) fail<ShapeError>("newton_schulz", "takes matrices, got shape {}", x.shape());
  if (!is_floating(x.dtype())) fail<DtypeError>("newton_schulz", "takes floating-point tensors, got {}", x.dtype());
  record_no_backward("newton_schulz", {x});
  const NoGrad no_grad;
  std::int64_t count = 1;
  for (int d = 0; d + 2 < x.rank(); ++d) count *= x.size(d);
  const Tensor batch = x.reshape({count, x.size(-2), x.size(-1)});
  const Tensor wide = batch.to(compute_type(x.dtype()));
  const Tensor norm = sqrt(sum(wide * wide, {1, 2}, true)) * newton_schulz_margin(options.coefficients);
  const DType dtype = x.device().is_cpu() ? wide.dtype() : x.dtype();
  const Tensor scaled = (wide / maximum(norm, full_like(norm, options.eps))).to(dtype).contiguous();
  const Tensor out = empty_like(scaled);
  const std::int64_t m = std::min(x.size(-2), x.size(-1));
  const Tensor work = empty({2 * scaled.size(0) * m * m}, {dtype, x.device()});
  newton_schulz_(scaled, out, work, options);
  return out.to(x.dtype()).reshape(x.shape());
}

}  // namespace trinix::optim
