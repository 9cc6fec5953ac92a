#include <algorithm>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/linalg.h>
#include <trinix/autograd/ops/linear_parts.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

using detail::fail;

namespace {

/// The view with its batch dims (all but the last two) broadcast to `batch`.
View with_batch(View v, const Shape& batch) {
  const int own = v.rank() - 2;
  const int extra = batch.size() - own;
  View result = v;
  result.shape = batch;
  result.strides = Dims::filled(batch.size(), 0);
  for (int i = 0; i < own; ++i) result.strides[i + extra] = v.shape[i] == 1 ? 0 : v.strides[i];
  for (int i = own; i < own + 2; ++i) {
    result.shape.push_back(v.shape[i]);
    result.strides.push_back(v.strides[i]);
  }
  return result;
}

Shape batch_of(const Shape& shape) {
  Shape batch = shape;
  batch.erase(batch.size() - 1);
  batch.erase(batch.size() - 1);
  return batch;
}

/// The gradient of one operand: left x right, summed over the batch dims along which that operand was broadcast.
void give_product(BackwardContext& ctx, int input, const Shape& shape, const View& left, const View& right,
                  const Shape& batch) {
  Shape full = batch;
  full.push_back(left.size(-2));
  full.push_back(right.size(-1));
  const View a = with_batch(left, batch);
  const View b = with_batch(right, batch);
  if (shape == full) {
    const GradTarget target = ctx.target(input);
    run_matmul(a, b, target.out.raw(), {}, target.accumulate);
  } else {
    const Tensor all = empty(full, {left.dtype, left.device});
    run_matmul(a, b, all.raw());
    ctx.give(input, sum_to(all, shape));
  }
}

/// matmul for operands of one dtype with two dims or more.
Tensor matmul_batched(const Tensor& a, const Tensor& b) {
  const Shape batch = broadcast_shapes("matmul", batch_of(a.shape()), batch_of(b.shape()));
  Shape shape = batch;
  shape.push_back(a.size(-2));
  shape.push_back(b.size(-1));
  const Tensor out = empty(shape, {a.dtype(), a.device()});
  run_matmul(with_batch(a.raw(), batch), with_batch(b.raw(), batch), out.raw());
  return record("matmul", out, {a, b}, {a, b}, [batch](BackwardContext& ctx) {
    const Tensor& a = ctx.saved(0);
    const Tensor& b = ctx.saved(1);
    const View dc = ctx.grad().raw();
    if (ctx.needs(0)) give_product(ctx, 0, a.shape(), dc, transposed(b.raw()), batch);
    if (ctx.needs(1)) give_product(ctx, 1, b.shape(), transposed(a.raw()), dc, batch);
  });
}

/// Says so in terms of the whole shapes, where broadcasting would speak of the batch dims alone.
void check_batches(const Tensor& a, const Tensor& b) {
  for (int i = 3; i <= std::min(a.rank(), b.rank()); ++i) {
    if (a.size(-i) != b.size(-i) && a.size(-i) != 1 && b.size(-i) != 1) {
      fail<ShapeError>("matmul", "shapes {} and {} do not fit: the batch dims {} and {} must be equal or 1", a.shape(),
                       b.shape(), a.size(-i), b.size(-i));
    }
  }
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  if (lowers({a, b})) return matmul(lowered(a), lowered(b));
  check_same_device("matmul", a, b);
  DType dtype = promote(a.dtype(), b.dtype());
  if (!is_floating(dtype)) dtype = DType::f32;
  if (a.rank() == 0 || b.rank() == 0) {
    fail<ShapeError>("matmul",
                     "shapes {} and {}: both operands need at least one dim; use * for a product with a number",
                     a.shape(), b.shape());
  }
  if (a.size(-1) != b.size(b.rank() == 1 ? 0 : -2)) {
    fail<ShapeError>("matmul", "shapes {} and {} do not fit: the last dim of the first must equal {} of the second",
                     a.shape(), b.shape(), b.rank() == 1 ? "the only dim" : "the second last dim");
  }
  check_batches(a, b);
  const Tensor x = a.to(dtype);
  const Tensor y = b.to(dtype);
  if (x.rank() == 1 && y.rank() == 1) return matmul_batched(x.unsqueeze(0), y.unsqueeze(1)).reshape({});
  if (x.rank() == 1) return matmul_batched(x.unsqueeze(0), y).squeeze({-2});
  if (y.rank() == 1) return matmul_batched(x, y.unsqueeze(1)).squeeze({-1});
  if (y.rank() == 2 && x.rank() > 2 && x.is_contiguous() && x.numel() > 0) {
    // One product over all rows: its gradient with respect to y needs no sum over a batch.
    Shape shape = x.shape();
    shape[shape.size() - 1] = y.size(1);
    return matmul_batched(x.reshape({-1, x.size(-1)}), y).reshape(shape);
  }
  return matmul_batched(x, y);
}

namespace {

/// x as a stack of matrices; a vector becomes one row.
View as_matrices(const Tensor& x) {
  View v = x.raw();
  if (v.rank() == 1) {
    v.shape.insert(0, 1);
    v.strides.insert(0, v.strides[0]);
  }
  return v;
}

void linear_backward(BackwardContext& ctx) {
  const Tensor& x = ctx.saved(0);
  const Tensor& weight = ctx.saved(1);
  const Tensor dy = ctx.grad().contiguous();
  if (ctx.needs(0)) give_linear_input_gradient(ctx, 0, dy, x.shape(), weight);
  give_linear_parameter_gradients(ctx, 1, 2, dy, x);
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (lowers({x, weight, bias})) return linear(lowered(x), lowered(weight), lowered(bias));
  check_linear("linear", x, weight, bias);
  Shape shape = x.shape();
  shape[shape.size() - 1] = weight.size(0);
  const Tensor y = empty(shape, {x.dtype(), x.device()});
  const View a = as_matrices(x);
  const View w = with_batch(transposed(weight.raw()), batch_of(a.shape));
  // Rows that cannot be merged, such as those of a slice of every sequence, are a batch that shares the weight.
  View out = as_matrices(y);
  run_matmul(a, w, out, bias.defined() ? bias.contiguous().raw() : View{});
  return record("linear", y, {x, weight, bias}, {x, weight}, linear_backward);
}

}  // namespace trinix
