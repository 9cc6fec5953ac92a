// Losses composed of elementwise functions and one reduction.
#include <algorithm>
#include <utility>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/loss.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

namespace {

/// Both in the dtype that losses are computed in.
std::pair<Tensor, Tensor> wide(const char* op, const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) {
    detail::fail<ShapeError>(op,
                             "shapes {} and {} differ; broadcasting here would hide a mistake, so expand() one of "
                             "them if that is meant",
                             a.shape(), b.shape());
  }
  check_floating(op, a);
  check_floating(op, b);
  check_same_device(op, a, b);
  const DType dtype = compute_type(promote(a.dtype(), b.dtype()));
  return {a.to(dtype), b.to(dtype)};
}

Tensor reduced(const Tensor& losses, LossReduction reduction) {
  if (reduction == LossReduction::none) return losses;
  return reduction == LossReduction::sum ? sum(losses) : mean(losses);
}

}  // namespace

Tensor mse_loss(const Tensor& a, const Tensor& b, LossReduction reduction) {
  const auto [x, y] = wide("mse_loss", a, b);
  return reduced(square(x - y), reduction);
}

Tensor bce_with_logits(const Tensor& logits, const Tensor& targets, const BceOptions& options) {
  const auto [x, y] = wide("bce_with_logits", logits, targets);
  Tensor positive = y * softplus(-x);
  if (options.pos_weight.defined()) positive = positive * options.pos_weight.to(x.dtype());
  return reduced(positive + (1 - y) * softplus(x), options.reduction);
}

Tensor kl_div(const Tensor& log_q, const Tensor& targets, const KlDivOptions& options) {
  using Reduction = KlDivOptions::Reduction;
  const auto [q, t] = wide("kl_div", log_q, targets);
  Tensor losses;
  if (options.log_target) {
    losses = exp(t) * (t - q);
  } else {
    // A class without probability adds nothing, whatever the logarithms are.
    const TensorOptions like{t.dtype(), t.device()};
    const Tensor occurs = t > 0;
    const Tensor log_p = log(where(occurs, t, ones({}, like)));
    losses = where(occurs, t * (log_p - q), zeros({}, like));
  }
  if (options.reduction == Reduction::none) return losses;
  if (options.reduction == Reduction::mean) return mean(losses);
  const Tensor total = sum(losses);
  if (options.reduction == Reduction::sum || losses.rank() == 0) return total;
  return total / static_cast<double>(std::max<std::int64_t>(losses.size(0), 1));
}

}  // namespace trinix
