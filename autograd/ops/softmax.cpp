#include <limits>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/softmax.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/record.h>
#include <trinix/core/ops/softmax.h>

namespace trinix {

namespace {

/// What the kernels compute, composed of primitives.
Tensor reference(const Tensor& x, int dim, bool log) {
  const Tensor wide = x.to(compute_type(x.dtype()));
  if (x.numel() == 0) return x.clone();
  const double infinity = std::numeric_limits<double>::infinity();
  // The shift only guards against overflow; the result does not depend on it, so it needs no gradient.
  const Tensor largest = max(wide.detach(), {dim}, /*keepdim=*/true);
  const Tensor empty_row = largest == -infinity;
  const Tensor shifted = wide - masked_fill(largest, empty_row, 0);
  const Tensor e = exp(shifted);
  const Tensor total = masked_fill(sum(e, {dim}, /*keepdim=*/true), empty_row, 1);
  const Tensor y = log ? masked_fill(shifted - trinix::log(total), empty_row, -infinity) : e / total;
  return y.to(x.dtype());
}

Tensor softmax(const char* op, const Tensor& x, std::int64_t dim, bool log, KernelChoice kernel) {
  if (widens({x})) return softmax(op, widened(x), dim, log, kernel);
  check_floating(op, x);
  const int d = wrap_dim(op, dim, x.rank());
  const Tensor y = empty_like(x);
  const Softmax::Forward args{.x = x.raw(), .y = y.raw(), .dim = d, .log = log};
  const auto* impl = KernelTable<Softmax>::instance().select(args, x.device(), needs_grad({x}), kernel);
  if (impl == nullptr) return reference(x, d, log);
  if (y.numel() > 0) impl->forward(args, stream_of(x.device()));
  return record(op, y, {x}, {y}, [impl, d, log](BackwardContext& ctx) {
    const Tensor& dy = ctx.grad();
    const Tensor dx = empty_like(dy);
    if (dx.numel() > 0) {
      impl->backward({.y = ctx.saved(0).raw(), .dy = dy.raw(), .dx = dx.raw(), .dim = d, .log = log},
                     stream_of(dx.device()));
    }
    ctx.give(0, dx);
  });
}

}  // namespace

Tensor softmax(const Tensor& x, std::int64_t dim, KernelChoice kernel) {
  return softmax("softmax", x, dim, /*log=*/false, kernel);
}

Tensor log_softmax(const Tensor& x, std::int64_t dim, KernelChoice kernel) {
  return softmax("log_softmax", x, dim, /*log=*/true, kernel);
}

}  // namespace trinix
