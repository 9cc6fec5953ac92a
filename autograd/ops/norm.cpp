#include <optional>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/norm.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/add_layer_norm.h>
#include <trinix/core/ops/layer_norm.h>

namespace trinix {

using detail::fail;

namespace {

void check_norm(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_floating(op, x);
  if (x.rank() == 0) fail<ShapeError>(op, "the input has no dims; the last dim is normalised, so give it one");
  for (const Tensor* t : {&weight, &bias}) {
    if (!t->defined()) continue;
    const char* role = t == &weight ? "weight" : "bias";
    check_same_device(op, x, *t);
    if (t->dtype() != x.dtype()) {
      fail<DtypeError>(op, "the input is {}, but the {} is {}; convert one with to()", x.dtype(), role, t->dtype());
    }
    if (t->rank() != 1 || t->size(0) != x.size(-1)) {
      fail<ShapeError>(op, "the {} has shape {}, but the last dim of the input of shape {} asks for [{}]", role,
                       t->shape(), x.shape(), x.size(-1));
    }
  }
}

Tensor dense(const Tensor& t) { return t.defined() ? t.contiguous() : t; }
View view_of(const Tensor& t) { return t.defined() ? t.raw() : View{}; }

/// A row-major tensor as (rows, C).
View rows_of(const Tensor& t) {
  View v = t.raw();
  const std::int64_t columns = v.size(-1);
  v.shape = {columns == 0 ? 0 : v.numel() / columns, columns};
  v.strides = {columns, 1};
  return v;
}

/// One value per row, in the type in which statistics are computed.
Tensor statistic_of(const Tensor& x) {
  Shape shape = x.shape();
  shape.erase(shape.size() - 1);
  return empty(shape, {compute_type(x.dtype()), x.device()});
}

View flat(const Tensor& t) {
  View v = t.raw();
  v.shape = {v.numel()};
  v.strides = {1};
  return v;
}

/// What layer_norm computes, composed of primitives.
Tensor layer_norm_reference(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  const Tensor wide = x.to(compute_type(x.dtype()));
  const Tensor centred = wide - mean(wide, {-1}, /*keepdim=*/true);
  Tensor y = centred * rsqrt(mean(square(centred), {-1}, /*keepdim=*/true) + eps);
  if (weight.defined()) y = y * weight.to(y.dtype());
  if (bias.defined()) y = y + bias.to(y.dtype());
  return y.to(x.dtype());
}

/// The gradients of weight and bias, opened for the kernel when they are wanted.
struct AffineTargets {
  AffineTargets(BackwardContext& ctx, int weight_input, int bias_input) {
    if (ctx.needs(weight_input)) weight = ctx.target(weight_input);
    if (ctx.needs(bias_input)) bias = ctx.target(bias_input);
  }

  std::optional<GradTarget> weight;
  std::optional<GradTarget> bias;
};
View view_of(const std::optional<GradTarget>& target) { return target ? target->out.raw() : View{}; }
bool accumulates(const std::optional<GradTarget>& target) { return target && target->accumulate; }

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, KernelChoice kernel) {
  if (widens({x, weight, bias})) return layer_norm(widened(x), widened(weight), widened(bias), eps, kernel);
  check_norm("layer_norm", x, weight, bias);
  const Tensor in = x.contiguous();
  const Tensor w = dense(weight);
  const Tensor b = dense(bias);
  const Tensor y = empty(x.shape(), {x.dtype(), x.device()});
  const Tensor mean = statistic_of(x);
  const Tensor rstd = statistic_of(x);
  const LayerNorm::Forward args{.x = rows_of(in),
                                .weight = view_of(w),
                                .bias = view_of(b),
                                .y = rows_of(y),
                                .mean = flat(mean),
                                .rstd = flat(rstd),
                                .eps = eps};
  const auto* impl = KernelTable<LayerNorm>::instance().select(args, x.device(), needs_grad({x, w, b}), kernel);
  if (impl == nullptr) return layer_norm_reference(x, w, b, eps);
  if (y.numel() > 0) impl->forward(args, stream_of(x.device()));
  return record("layer_norm", y, {in, w, b}, {in, w, mean, rstd}, [impl](BackwardContext& ctx) {
    const Tensor& x = ctx.saved(0);
    const Tensor dy = ctx.grad().contiguous();
    const Tensor dx = ctx.needs(0) ? empty(x.shape(), {x.dtype(), x.device()}) : Tensor();
    const AffineTargets affine(ctx, 1, 2);
    impl->backward({.x = rows_of(x),
                    .weight = view_of(ctx.saved(1)),
                    .mean = flat(ctx.saved(2)),
                    .rstd = flat(ctx.saved(3)),
                    .dy = rows_of(dy),
                    .dx = dx.defined() ? rows_of(dx) : View{},
                    .dweight = view_of(affine.weight),
                    .dbias = view_of(affine.bias),
                    .accumulate_dweight = accumulates(affine.weight),
                    .accumulate_dbias = accumulates(affine.bias)},
                   stream_of(x.device()));
    ctx.give(0, dx);
  });
}

std::pair<Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& branch, const Tensor& weight,
                                         const Tensor& bias, double eps, KernelChoice kernel) {
  if (widens({x, branch, weight, bias})) {
    return add_layer_norm(widened(x), widened(branch), widened(weight), widened(bias), eps, kernel);
  }
  check_norm("add_layer_norm", x, weight, bias);
  check_same_device("add_layer_norm", x, branch);
  if (branch.shape() != x.shape()) {
    fail<ShapeError>("add_layer_norm", "x has shape {}, the branch {}; they must be equal", x.shape(), branch.shape());
  }
  if (branch.dtype() != x.dtype()) {
    fail<DtypeError>("add_layer_norm", "x is {}, the branch {}; convert one with to()", x.dtype(), branch.dtype());
  }
  const Tensor in = x.contiguous();
  const Tensor other = branch.contiguous();
  const Tensor w = dense(weight);
  const Tensor b = dense(bias);
  const Tensor sum = empty(x.shape(), {x.dtype(), x.device()});
  const Tensor y = empty(x.shape(), {x.dtype(), x.device()});
  const Tensor mean = statistic_of(x);
  const Tensor rstd = statistic_of(x);
  const AddLayerNorm::Forward args{.x = rows_of(in),
                                   .branch = rows_of(other),
                                   .weight = view_of(w),
                                   .bias = view_of(b),
                                   .sum = rows_of(sum),
                                   .y = rows_of(y),
                                   .mean = flat(mean),
                                   .rstd = flat(rstd),
                                   .eps = eps};
  const bool recorded = needs_grad({x, branch, w, b});
  const auto* impl = KernelTable<AddLayerNorm>::instance().select(args, x.device(), recorded, kernel);
  if (impl == nullptr) {
    const Tensor composed = x + branch;
    return {composed, layer_norm_reference(composed, w, b, eps)};
  }
  if (y.numel() > 0) impl->forward(args, stream_of(x.device()));
  record_all("add_layer_norm", {sum, y}, {in, other, w, b}, {sum, w, mean, rstd}, [impl](BackwardContext& ctx) {
    const Tensor& sum = ctx.saved(0);
    const bool needs_dx = ctx.needs(0) || ctx.needs(1);
    const Tensor dx = needs_dx ? empty(sum.shape(), {sum.dtype(), sum.device()}) : Tensor();
    const Tensor dy = ctx.grad(1).contiguous();
    const Tensor dsum = ctx.has_grad(0) ? ctx.grad(0).contiguous() : Tensor();
    const AffineTargets affine(ctx, 2, 3);
    impl->backward({.sum = rows_of(sum),
                    .weight = view_of(ctx.saved(1)),
                    .mean = flat(ctx.saved(2)),
                    .rstd = flat(ctx.saved(3)),
                    .dsum = dsum.defined() ? rows_of(dsum) : View{},
                    .dy = rows_of(dy),
                    .dx = needs_dx ? rows_of(dx) : View{},
                    .dweight = view_of(affine.weight),
                    .dbias = view_of(affine.bias),
                    .accumulate_dweight = accumulates(affine.weight),
                    .accumulate_dbias = accumulates(affine.bias)},
                   stream_of(sum.device()));
    ctx.give(0, dx);
    ctx.give(1, dx);
  });
  return {sum, y};
}

}  // namespace trinix
