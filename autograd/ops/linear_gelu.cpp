#include <trinix/autograd/ops/linalg.h>
#include <trinix/autograd/ops/linear_gelu.h>
#include <trinix/autograd/ops/linear_parts.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/record.h>
#include <trinix/core/ops/linear_gelu.h>

namespace trinix {

namespace {

/// The gradients of the inputs in front of the GELU: x, weight and bias are inputs 0, 1 and 2.
void give_front_gradients(BackwardContext& ctx, const Impl<LinearGelu>& impl, const Tensor& dout) {
  const Tensor& x = ctx.saved(0);
  const Tensor& weight = ctx.saved(1);
  const Tensor& pre = ctx.saved(2);
  const Tensor dpre = empty_like(pre);
  const GradTarget sums = ctx.needs(2) ? ctx.target(2) : GradTarget{};
  impl.backward({.dout = as_rows(dout),
                 .next = ctx.saved(4).raw(),
                 .pre = as_rows(pre),
                 .dpre = as_rows(dpre),
                 .dbias = sums.out.defined() ? sums.out.raw() : View{},
                 .accumulate_dbias = sums.accumulate},
                stream_of(dout.device()));
  if (ctx.needs(0)) give_linear_input_gradient(ctx, 0, dpre, x.shape(), weight);
  if (ctx.needs(1)) {
    const GradTarget target = ctx.target(1);
    run_matmul(transposed(as_rows(dpre)), as_rows(x), target.out.raw(), {}, target.accumulate);
  }
}

}  // namespace

Tensor gelu_mlp(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& next_weight,
                const Tensor& next_bias, KernelChoice kernel) {
  if (lowers({x, weight, bias, next_weight, next_bias})) {
    return gelu_mlp(lowered(x), lowered(weight), lowered(bias), lowered(next_weight), lowered(next_bias), kernel);
  }
  check_linear("gelu_mlp", x, weight, bias);
  const auto composed = [&] { return linear(gelu(linear(x, weight, bias), Gelu::tanh), next_weight, next_bias); };
  if (x.numel() == 0 || weight.numel() == 0) return composed();
  const Tensor rows = x.contiguous();
  const Tensor w = weight.contiguous();
  Shape shape = x.shape();
  shape[shape.size() - 1] = weight.size(0);
  const Tensor pre = empty(shape, {x.dtype(), x.device()});
  const Tensor y = empty_like(pre);
  const LinearGelu::Forward args{.x = as_rows(rows),
                                 .w = w.raw(),
                                 .bias = bias.defined() ? bias.contiguous().raw() : View{},
                                 .pre = as_rows(pre),
                                 .y = as_rows(y)};
  const bool recorded = needs_grad({x, weight, bias, next_weight, next_bias});
  const auto* impl = KernelTable<LinearGelu>::instance().select(args, x.device(), recorded, kernel);
  if (impl == nullptr) return composed();
  check_linear("gelu_mlp", y, next_weight, next_bias);
  impl->forward(args, stream_of(x.device()));
  const Tensor next = next_weight.contiguous();
  const Tensor out = [&] {
    const NoGrad no_grad;
    return linear(y, next, next_bias);
  }();
  return record("gelu_mlp", out, {x, weight, bias, next_weight, next_bias}, {rows, w, pre, y, next},
                [impl](BackwardContext& ctx) {
                  const Tensor dout = ctx.grad().contiguous();
                  give_linear_parameter_gradients(ctx, 3, 4, dout, ctx.saved(3));
                  if (ctx.needs(0) || ctx.needs(1) || ctx.needs(2)) give_front_gradients(ctx, *impl, dout);
                });
}

}  // namespace trinix
