#include <algorithm>
#include <numeric>

#include <trinix/autograd/ops/joining.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/copy.h>
#include <trinix/core/ops/fill.h>

namespace trinix {

using detail::fail;

namespace {

/// Elements start .. start + length of one dim of a view.
View part_of(View v, int dim, std::int64_t start, std::int64_t length) {
  v.data = static_cast<char*>(v.data) + start * v.strides[dim] * static_cast<std::int64_t>(size_of(v.dtype));
  v.shape[dim] = length;
  return v;
}

void copy_into(const View& from, const View& to, bool accumulate = false) {
  if (to.numel() > 0) run<Copy>({.from = from, .to = to, .accumulate = accumulate}, to.device);
}

/// One list of tensors with a common dtype.
std::vector<Tensor> promoted(const char* op, const std::vector<Tensor>& tensors) {
  if (tensors.empty()) fail<ShapeError>(op, "takes at least one tensor, got none");
  DType dtype = tensors[0].dtype();
  for (const Tensor& t : tensors) {
    check_same_device(op, tensors[0], t);
    dtype = promote(dtype, t.dtype());
  }
  std::vector<Tensor> result;
  result.reserve(tensors.size());
  for (const Tensor& t : tensors) result.push_back(t.to(dtype));
  return result;
}

/// The result's shape; refuses shapes that differ in another dim than `dim`.
Shape joined_shape(const char* op, const std::vector<Tensor>& tensors, int dim) {
  Shape shape = tensors[0].shape();
  for (std::size_t i = 1; i < tensors.size(); ++i) {
    Shape expected = tensors[0].shape();
    const Shape& given = tensors[i].shape();
    if (given.size() == expected.size()) expected[dim] = given[dim];
    if (given != expected) {
      fail<ShapeError>(op, "tensor {} has shape {}, tensor 0 has {}; along dim {} they may differ, elsewhere not", i,
                       given, tensors[0].shape(), dim);
    }
    if (__builtin_add_overflow(shape[dim], given[dim], &shape[dim])) {
      fail<ShapeError>(op, "the sizes along dim {} add up to more than 63 bits", dim);
    }
  }
  return shape;
}

/// Joins along an existing dim; dtypes and devices already agree.
Tensor join(const char* op, const std::vector<Tensor>& tensors, int dim) {
  const Tensor y = empty(joined_shape(op, tensors, dim), {tensors[0].dtype(), tensors[0].device()});
  std::vector<std::int64_t> sizes;
  std::int64_t start = 0;
  for (const Tensor& t : tensors) {
    copy_into(t.raw(), part_of(y.raw(), dim, start, t.shape()[dim]));
    start += t.shape()[dim];
    sizes.push_back(t.shape()[dim]);
  }
  return record(op, y, tensors, {}, [sizes, dim](BackwardContext& ctx) {
    std::int64_t start = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if (ctx.needs(static_cast<int>(i))) ctx.give(static_cast<int>(i), ctx.grad().narrow(dim, start, sizes[i]));
      start += sizes[i];
    }
  });
}

/// All parts as one op, so that their gradients are put together in one pass instead of being added up, each among
/// zeros of the whole.
std::vector<Tensor> split_into(const char* op, const Tensor& x, const std::vector<std::int64_t>& sizes, int dim) {
  std::vector<Tensor> parts;
  std::int64_t start = 0;
  for (const std::int64_t size : sizes) {
    Shape shape = x.shape();
    shape[dim] = size;
    const std::int64_t skipped = size > 0 ? start * x.strides()[dim] : 0;
    parts.push_back(x.alias(shape, x.strides(), x.offset() + skipped));
    start += size;
  }
  record_all(op, parts, {x}, {}, [sizes, dim](BackwardContext& ctx) {
    const GradTarget dx = ctx.target(0);
    std::int64_t start = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const View place = part_of(dx.out.raw(), dim, start, sizes[i]);
      const int output = static_cast<int>(i);
      if (ctx.has_grad(output)) {
        copy_into(ctx.grad(output).raw(), place, dx.accumulate);
      } else if (!dx.accumulate && place.numel() > 0) {
        run<Fill>({.out = place, .value = 0}, place.device);
      }
      start += sizes[i];
    }
  });
  return parts;
}

/// Parts of `size` each, the last one possibly shorter; one empty part for an empty dim.
std::vector<std::int64_t> equal_sizes(std::int64_t total, std::int64_t size) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t start = 0; start < total; start += size) sizes.push_back(std::min(size, total - start));
  if (sizes.empty()) sizes.push_back(0);
  return sizes;
}

}  // namespace

Tensor cat(const std::vector<Tensor>& tensors, std::int64_t dim) {
  const std::vector<Tensor> parts = promoted("cat", tensors);
  if (parts[0].rank() == 0) fail<ShapeError>("cat", "tensors without dims cannot be joined along one; use stack()");
  return join("cat", parts, wrap_dim("cat", dim, parts[0].rank()));
}

Tensor stack(const std::vector<Tensor>& tensors, std::int64_t dim) {
  std::vector<Tensor> parts = promoted("stack", tensors);
  const Shape& shape = tensors[0].shape();
  for (std::size_t i = 1; i < parts.size(); ++i) {
    if (parts[i].shape() != shape) {
      fail<ShapeError>("stack", "tensor {} has shape {}, tensor 0 has {}; all shapes must be equal", i,
                       parts[i].shape(), shape);
    }
  }
  const int d = wrap_dim("stack", dim, shape.size() + 1);
  for (Tensor& t : parts) t = t.unsqueeze(d);
  return join("stack", parts, d);
}

std::vector<Tensor> split(const Tensor& x, std::int64_t size, std::int64_t dim) {
  const int d = wrap_dim("split", dim, x.rank());
  if (size < 1) fail<ShapeError>("split", "parts of {} elements were asked for; at least 1 is needed", size);
  return split_into("split", x, equal_sizes(x.shape()[d], size), d);
}

std::vector<Tensor> split(const Tensor& x, const std::vector<std::int64_t>& sizes, std::int64_t dim) {
  const int d = wrap_dim("split", dim, x.rank());
  std::int64_t rest = x.shape()[d];
  bool fits = !sizes.empty();
  for (const std::int64_t size : sizes) {
    fits = fits && size >= 0 && size <= rest;
    if (fits) rest -= size;
  }
  if (!fits || rest != 0) {
    std::string list;
    for (const std::int64_t size : sizes) list += (list.empty() ? "" : ", ") + std::to_string(size);
    fail<ShapeError>("split", "sizes [{}] do not add up to {}, the size of dim {} of shape {}", list, x.shape()[d], d,
                     x.shape());
  }
  return split_into("split", x, sizes, d);
}

std::vector<Tensor> chunk(const Tensor& x, std::int64_t count, std::int64_t dim) {
  const int d = wrap_dim("chunk", dim, x.rank());
  if (count < 1) fail<ShapeError>("chunk", "{} parts were asked for; at least 1 is needed", count);
  const std::int64_t n = x.shape()[d];
  return split_into("chunk", x, equal_sizes(n, std::max<std::int64_t>((n - 1) / count + 1, 1)), d);
}

}  // namespace trinix
