// Sorting and selection along one dim: sort, topk.
#include <trinix/autograd/ops/index_operands.h>
#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/gather.h>
#include <trinix/core/ops/sort.h>

namespace trinix {

namespace {

/// Both ops pick elements of x: the gradient goes back to where the values came from.
std::pair<Tensor, Tensor> record_picked(const char* op, const Tensor& x, const Tensor& values, const Tensor& indices,
                                        int dim) {
  record_all(op, {values, indices}, {x}, {indices}, [dim](BackwardContext& ctx) {
    const GradTarget dx = zeroed_target(ctx, 0);
    if (ctx.grad().numel() == 0) return;
    run<ScatterAdd>({.source = ctx.grad().raw(), .index = ctx.saved(0).raw(), .out = dx.out.raw(), .dim = dim},
                    dx.out.device());
  });
  return {values, indices};
}

/// x with one dim at least, as both ops need it.
int sorted_dim(const char* op, const Tensor& x, std::int64_t dim) {
  if (x.rank() == 0) detail::fail<ShapeError>(op, "takes a tensor with at least one dim; reshape it to [1] first");
  return wrap_dim(op, dim, x.rank());
}

}  // namespace

std::pair<Tensor, Tensor> sort(const Tensor& x, std::int64_t dim, bool descending) {
  const int d = sorted_dim("sort", x, dim);
  const Tensor values = empty_like(x);
  const Tensor indices = empty(x.shape(), {DType::i64, x.device()});
  if (x.numel() > 0) {
    run<Sort>({.x = x.raw(), .values = values.raw(), .indices = indices.raw(), .dim = d, .descending = descending},
              x.device());
  }
  return record_picked("sort", x, values, indices, d);
}

std::pair<Tensor, Tensor> topk(const Tensor& x, std::int64_t k, std::int64_t dim, bool largest) {
  const int d = sorted_dim("topk", x, dim);
  if (k < 0 || k > x.shape()[d]) {
    detail::fail<ShapeError>("topk", "{} elements were asked for along dim {} of shape {}", k, d, x.shape());
  }
  Shape shape = x.shape();
  shape[d] = k;
  const Tensor values = empty(shape, {x.dtype(), x.device()});
  const Tensor indices = empty(shape, {DType::i64, x.device()});
  if (values.numel() > 0) {
    run<TopK>({.x = x.raw(), .values = values.raw(), .indices = indices.raw(), .dim = d, .largest = largest},
              x.device());
  }
  return record_picked("topk", x, values, indices, d);
}

}  // namespace trinix
