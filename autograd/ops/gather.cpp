// Single elements by index: gather, scatter_add, one_hot.
#include <string>

#include <trinix/autograd/ops/index_operands.h>
#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/gather.h>

namespace trinix {

using detail::fail;

namespace {

/// Checks that `index` fits over x, and its values; returns the dim.
int check_elementwise_index(const char* op, const Tensor& x, std::int64_t dim, const Tensor& index) {
  check_index_tensor(op, x, index);
  const int d = wrap_dim(op, dim, x.rank());
  bool fits = index.rank() == x.rank();
  for (int i = 0; fits && i < x.rank(); ++i) fits = i == d || index.shape()[i] <= x.shape()[i];
  if (!fits) {
    fail<ShapeError>(op,
                     "an index of shape {} does not fit a tensor of shape {}: it needs as many dims, and no dim but "
                     "{} may be larger",
                     index.shape(), x.shape(), d);
  }
  check_index_values(op, index, x.shape()[d], ("elements of dim " + std::to_string(d)).c_str());
  return d;
}

void add_elements(const Tensor& source, const Tensor& index, const Tensor& out, int dim) {
  if (source.numel() == 0) return;
  run<ScatterAdd>({.source = source.raw(), .index = index.raw(), .out = out.raw(), .dim = dim}, out.device());
}

Tensor pick_elements(const Tensor& x, const Tensor& index, int dim) {
  const Tensor y = empty(index.shape(), {x.dtype(), x.device()});
  if (y.numel() == 0) return y;
  run<Gather>({.x = x.raw(), .index = index.raw(), .out = y.raw(), .dim = dim}, x.device());
  return y;
}

}  // namespace

Tensor gather(const Tensor& x, std::int64_t dim, const Tensor& index) {
  const int d = check_elementwise_index("gather", x, dim, index);
  return record("gather", pick_elements(x, index, d), {x}, {index}, [d](BackwardContext& ctx) {
    const GradTarget dx = zeroed_target(ctx, 0);
    add_elements(ctx.grad(), ctx.saved(0), dx.out, d);
  });
}

Tensor scatter_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source) {
  const int d = check_elementwise_index("scatter_add", x, dim, index);
  if (source.shape() != index.shape()) {
    fail<ShapeError>("scatter_add", "the index has shape {}, the source {}; they must be equal", index.shape(),
                     source.shape());
  }
  const auto [to, from] = promoted("scatter_add", x, source);
  const Tensor y = to.detach().clone();
  add_elements(from, index, y, d);
  return record("scatter_add", y, {to, from}, {index}, [d](BackwardContext& ctx) {
    ctx.give(0, ctx.grad());
    if (ctx.needs(1)) ctx.give(1, pick_elements(ctx.grad(), ctx.saved(0), d));
  });
}

Tensor one_hot(const Tensor& indices, std::int64_t classes) {
  if (classes < 1) fail<ConfigError>("one_hot", "{} classes were asked for; at least 1 is needed", classes);
  check_index_tensor("one_hot", indices, indices);
  check_index_values("one_hot", indices, classes, "classes");
  Shape shape = indices.shape();
  shape.push_back(classes);
  const Tensor y = zeros(shape, {DType::i64, indices.device()});
  const Tensor index = indices.unsqueeze(-1);
  add_elements(ones({}, {DType::i64, indices.device()}).expand(index.shape()), index, y, indices.rank());
  return y;
}

}  // namespace trinix
