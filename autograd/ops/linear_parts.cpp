#include <utility>

#include <trinix/autograd/ops/linear_parts.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/fill.h>
#include <trinix/core/ops/matmul.h>
#include <trinix/core/ops/reduce.h>

namespace trinix {

using detail::fail;

void check_linear(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_floating(op, x);
  for (const Tensor* t : {&weight, &bias}) {
    if (!t->defined()) continue;
    check_same_device(op, x, *t);
    if (t->dtype() != x.dtype()) {
      fail<DtypeError>(op, "the input is {}, but the {} is {}; convert one with to()", x.dtype(),
                       t == &weight ? "weight" : "bias", t->dtype());
    }
  }
  if (weight.rank() != 2 || x.rank() < 1 || x.size(-1) != weight.size(1)) {
    fail<ShapeError>(op,
                     "an input of shape {} does not fit a weight of shape {}: the input's last dim must equal "
                     "the weight's dim 1, of shape (out, in)",
                     x.shape(), weight.shape());
  }
  if (bias.defined() && (bias.rank() != 1 || bias.size(0) != weight.size(0))) {
    fail<ShapeError>(op, "the bias has shape {}, but the weight of shape {} makes {} outputs", bias.shape(),
                     weight.shape(), weight.size(0));
  }
}

View transposed(View v) {
  const int r = v.rank();
  std::swap(v.shape[r - 2], v.shape[r - 1]);
  std::swap(v.strides[r - 2], v.strides[r - 1]);
  return v;
}

View as_rows(const Tensor& t) {
  View v = t.raw();
  const std::int64_t columns = v.size(-1);
  v.shape = {columns == 0 ? 0 : v.numel() / columns, columns};
  v.strides = {columns, 1};
  return v;
}

void run_matmul(const View& a, const View& b, const View& out, const View& bias, bool accumulate) {
  if (out.numel() == 0) return;
  if (a.size(-1) == 0 && !bias.defined) {  // an empty sum
    if (!accumulate) run<Fill>({.out = out, .value = 0}, out.device);
    return;
  }
  run<Matmul>({.a = a, .b = b, .out = out, .bias = bias, .accumulate = accumulate}, out.device);
}

void give_linear_input_gradient(BackwardContext& ctx, int input, const Tensor& dy, const Shape& shape,
                                const Tensor& weight) {
  const Tensor dx = empty(shape, {dy.dtype(), dy.device()});
  run_matmul(as_rows(dy), weight.raw(), as_rows(dx));
  ctx.give(input, dx);
}

void give_linear_parameter_gradients(BackwardContext& ctx, int weight, int bias, const Tensor& dy, const Tensor& x) {
  const View rows = as_rows(dy);
  const bool some_rows = rows.numel() > 0 && x.numel() > 0;
  const Tensor dense = ctx.needs(weight) ? x.contiguous() : Tensor();
  if (ctx.needs(weight) && ctx.needs(bias) && some_rows) {
    const GradTarget sums = ctx.target(bias);
    const GradTarget target = ctx.target(weight);
    return run<Matmul>({.a = transposed(rows),
                        .b = as_rows(dense),
                        .out = target.out.raw(),
                        .accumulate = target.accumulate,
                        .row_sums = sums.out.raw(),
                        .accumulate_row_sums = sums.accumulate},
                       dy.device());
  }
  if (ctx.needs(weight)) {
    const GradTarget target = ctx.target(weight);
    run_matmul(transposed(rows), as_rows(dense), target.out.raw(), {}, target.accumulate);
  }
  if (ctx.needs(bias)) {
    const GradTarget target = ctx.target(bias);
    View out = target.out.raw();
    out.shape.insert(0, 1);
    out.strides.insert(0, out.shape[1]);
    run<Reduce>({.fn = ReduceFn::sum, .x = rows, .out = out, .accumulate = target.accumulate}, out.device);
  }
}

}  // namespace trinix
