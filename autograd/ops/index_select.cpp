// Whole slices by index: index_select, index_add, take, embedding.
#include <string>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/index_operands.h>
#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/index_select.h>

namespace trinix {

using detail::fail;

namespace {

std::string elements_of(int dim) { return "elements of dim " + std::to_string(dim); }

void check_one_dim(const char* op, const Tensor& index) {
  if (index.rank() != 1) fail<ShapeError>(op, "the index must have one dim, got shape {}", index.shape());
}

Tensor pick_slices(const Tensor& x, const Tensor& index, int dim) {
  Shape shape = x.shape();
  shape[dim] = index.numel();
  const Tensor y = empty(shape, {x.dtype(), x.device()});
  if (y.numel() == 0) return y;
  run<IndexSelect>({.x = x.raw(), .index = index.raw(), .out = y.raw(), .dim = dim}, x.device());
  return y;
}

void add_slices(const Tensor& source, const Tensor& index, const Tensor& out, int dim) {
  if (source.numel() == 0) return;
  run<IndexAdd>({.source = source.raw(), .index = index.raw(), .out = out.raw(), .dim = dim}, out.device());
}

/// index_select for an index that has been checked.
Tensor select_slices(const char* op, const Tensor& x, const Tensor& index, int dim) {
  return record(op, pick_slices(x, index, dim), {x}, {index}, [dim](BackwardContext& ctx) {
    const GradTarget dx = zeroed_target(ctx, 0);
    add_slices(ctx.grad(), ctx.saved(0), dx.out, dim);
  });
}

/// `count` sizes of `shape` from `first` on.
Shape part(const Shape& shape, int first, int count) {
  Shape result;
  for (int i = first; i < first + count; ++i) result.push_back(shape[i]);
  return result;
}

Shape joined(Shape a, const Shape& b) {
  for (const std::int64_t d : b) a.push_back(d);
  return a;
}

}  // namespace

Tensor index_select(const Tensor& x, std::int64_t dim, const Tensor& index) {
  check_index_tensor("index_select", x, index);
  check_one_dim("index_select", index);
  const int d = wrap_dim("index_select", dim, x.rank());
  check_index_values("index_select", index, x.shape()[d], elements_of(d).c_str());
  return select_slices("index_select", x, index, d);
}

Tensor index_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source) {
  check_index_tensor("index_add", x, index);
  check_one_dim("index_add", index);
  const int d = wrap_dim("index_add", dim, x.rank());
  Shape expected = x.shape();
  expected[d] = index.numel();
  if (source.shape() != expected) {
    fail<ShapeError>("index_add", "adding {} slices along dim {} of shape {} takes a source of shape {}, got {}",
                     index.numel(), d, x.shape(), expected, source.shape());
  }
  check_index_values("index_add", index, x.shape()[d], elements_of(d).c_str());
  const auto [to, from] = promoted("index_add", x, source);
  const Tensor y = to.detach().clone();
  add_slices(from, index, y, d);
  return record("index_add", y, {to, from}, {index}, [d](BackwardContext& ctx) {
    ctx.give(0, ctx.grad());
    if (ctx.needs(1)) ctx.give(1, pick_slices(ctx.grad(), ctx.saved(0), d));
  });
}

Tensor take(const Tensor& x, const std::vector<Tensor>& indices) {
  const int count = static_cast<int>(indices.size());
  if (count == 0 || count > x.rank()) {
    fail<ShapeError>("take", "{} index tensors were given for shape {}; give 1 to {}", count, x.shape(), x.rank());
  }
  Shape shape;
  for (int i = 0; i < count; ++i) {
    const Tensor& index = indices[static_cast<std::size_t>(i)];
    check_index_tensor("take", x, index);
    shape = broadcast_shapes("take", shape, index.shape());
    check_index_values("take", index, x.shape()[i], elements_of(i).c_str());
  }
  // One index into the leading dims seen as one.
  Tensor flat = indices[0].to(DType::i64);
  for (int i = 1; i < count; ++i) flat = flat * x.shape()[i] + indices[static_cast<std::size_t>(i)].to(DType::i64);
  const Shape rest = part(x.shape(), count, x.rank() - count);
  const Tensor rows = x.reshape(joined({numel(part(x.shape(), 0, count))}, rest));
  const Tensor picked = select_slices("take", rows, flat.expand(shape).reshape({numel(shape)}), 0);
  return picked.reshape(joined(shape, rest));
}

Tensor embedding(const Tensor& indices, const Tensor& weight) {
  check_index_tensor("embedding", weight, indices);
  check_floating("embedding", weight);
  if (weight.rank() != 2) {
    fail<ShapeError>("embedding", "the weight must have the shape (vocabulary, width), got {}", weight.shape());
  }
  check_index_values("embedding", indices, weight.shape()[0], "rows");
  const Tensor rows = select_slices("embedding", weight, indices.reshape({indices.numel()}), 0);
  return rows.reshape(joined(indices.shape(), {weight.shape()[1]}));
}

}  // namespace trinix
