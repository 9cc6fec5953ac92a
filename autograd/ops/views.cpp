// Tensor's methods that give another look at the same storage. No data moves; the backward of a view is the inverse
// view, or a scatter of the gradient into zeros.
#include <algorithm>
#include <limits>
#include <optional>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/record.h>
#include <trinix/core/backend.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/copy.h>

namespace trinix {

using detail::fail;

namespace {

/// Backward of any view that picks elements without repeating them: the gradient, put in their places among zeros.
auto scatter_back(Shape shape, Shape view_shape, Strides strides, std::int64_t offset) {
  return [=](BackwardContext& ctx) {
    const Tensor dx = zeros(shape, {ctx.grad().dtype(), ctx.grad().device()});
    run<Copy>({.from = ctx.grad().raw(), .to = dx.alias(view_shape, strides, offset).raw()}, dx.device());
    ctx.give(0, dx);
  };
}

/// Strides, and offset from the first element, that the same selection has in a row-major tensor of x's shape.
struct Selection {
  Strides strides;
  std::int64_t offset;
};

/// Records a view that picks elements of `x`. `dense` describes the same pick from a row-major tensor of x's shape.
Tensor record_pick(const char* op, const Tensor& x, const Tensor& y, const Selection& dense) {
  return record(op, y, {x}, {}, scatter_back(x.shape(), y.shape(), dense.strides, dense.offset));
}

/// Strides with which memory laid out as (shape, strides) can be read in the new shape, if any.
std::optional<Strides> strides_for(const Shape& shape, const Strides& strides, const Shape& wanted) {
  if (trinix::numel(shape) == 0) return contiguous_strides(wanted);
  Strides result = wanted;
  int d = shape.size() - 1;
  int w = wanted.size() - 1;
  // Match groups of dims from the back whose sizes multiply to the same number.
  while (w >= 0) {
    while (d >= 0 && shape[d] == 1) --d;
    if (d < 0) {  // only ones are left
      result[w--] = 1;
      continue;
    }
    // The longest run of old dims that is contiguous in itself.
    const std::int64_t step = strides[d];
    std::int64_t run_size = shape[d];
    int first = d;
    while (first > 0 && (shape[first - 1] == 1 || strides[first - 1] == run_size * step)) {
      --first;
      run_size *= shape[first];
    }
    std::int64_t used = 1;
    while (w >= 0 && used * wanted[w] <= run_size && run_size % (used * wanted[w]) == 0) {
      result[w] = step * used;
      used *= wanted[w--];
    }
    if (used != run_size) return std::nullopt;
    d = first - 1;
  }
  return result;
}

/// Fills in a -1 and checks the number of elements.
Shape complete_shape(const char* op, const Tensor& x, const Shape& shape) {
  Shape result = shape;
  int unknown = -1;
  std::int64_t known = 1;
  for (int i = 0; i < shape.size(); ++i) {
    if (shape[i] == -1) {
      if (unknown >= 0) fail<ShapeError>(op, "{} has more than one -1", shape);
      unknown = i;
    } else if (shape[i] < 0 || __builtin_mul_overflow(known, shape[i], &known)) {
      fail<ShapeError>(op, "{} is not a shape", shape);
    }
  }
  const std::int64_t n = x.numel();
  if (unknown >= 0) {
    if (known == 0 || n % known != 0) {
      fail<ShapeError>(op, "{} elements of shape {} cannot be arranged as {}", n, x.shape(), shape);
    }
    result[unknown] = n / known;
  } else if (known != n) {
    fail<ShapeError>(op, "shape {} has {} elements, but {} has {}", x.shape(), n, shape, known);
  }
  return result;
}

Tensor view_or_undefined(const char* op, const Tensor& x, const Shape& wanted) {
  const auto strides = strides_for(x.shape(), x.strides(), wanted);
  if (!strides) return {};
  return record(op, x.alias(wanted, *strides, x.offset()), {x}, {},
                [shape = x.shape()](BackwardContext& ctx) { ctx.give(0, ctx.grad().reshape(shape)); });
}

}  // namespace

Tensor Tensor::reshape(const Shape& shape) const {
  const Shape wanted = complete_shape("reshape", *this, shape);
  const Tensor viewed = view_or_undefined("reshape", *this, wanted);
  return viewed.defined() ? viewed : view_or_undefined("reshape", contiguous(), wanted);
}

Tensor Tensor::view(const Shape& shape) const {
  const Shape wanted = complete_shape("view", *this, shape);
  const Tensor viewed = view_or_undefined("view", *this, wanted);
  if (!viewed.defined()) {
    fail<ShapeError>("view", "shape {} with strides {} cannot be seen as {} without a copy; use reshape()",
                     this->shape(), strides(), wanted);
  }
  return viewed;
}

Tensor Tensor::flatten(std::int64_t start, std::int64_t end) const {
  if (rank() == 0) return reshape({1});
  const int first = wrap_dim("flatten", start, rank());
  const int last = wrap_dim("flatten", end, rank());
  if (first > last) fail<IndexError>("flatten", "dim {} lies after dim {}", start, end);
  Shape merged;
  for (int i = 0; i < rank(); ++i) {
    if (i > first && i <= last) {
      std::int64_t& size = merged[merged.size() - 1];
      // Possible next to a dim of size 0, which keeps the whole from overflowing.
      if (__builtin_mul_overflow(size, shape()[i], &size)) {
        fail<ShapeError>("flatten", "the merged size of shape {} does not fit in 63 bits", shape());
      }
    } else {
      merged.push_back(shape()[i]);
    }
  }
  return reshape(merged);
}

Tensor Tensor::permute(const Dims& dims) const {
  if (dims.size() != rank()) {
    fail<ShapeError>("permute", "{} names {} dims, the tensor of shape {} has {}", dims, dims.size(), shape(), rank());
  }
  Shape s;
  Strides st;
  Dims inverse = Dims::filled(rank(), -1);
  for (int i = 0; i < rank(); ++i) {
    const int d = wrap_dim("permute", dims[i], rank());
    if (inverse[d] != -1) fail<IndexError>("permute", "dim {} is given twice in {}", dims[i], dims);
    inverse[d] = i;
    s.push_back(shape()[d]);
    st.push_back(strides()[d]);
  }
  return record("permute", alias(s, st, offset()), {*this}, {},
                [inverse](BackwardContext& ctx) { ctx.give(0, ctx.grad().permute(inverse)); });
}

Tensor Tensor::transpose(std::int64_t dim0, std::int64_t dim1) const {
  const int a = wrap_dim("transpose", dim0, rank());
  const int b = wrap_dim("transpose", dim1, rank());
  Shape s = shape();
  Strides st = strides();
  std::swap(s[a], s[b]);
  std::swap(st[a], st[b]);
  return record("transpose", alias(s, st, offset()), {*this}, {},
                [a, b](BackwardContext& ctx) { ctx.give(0, ctx.grad().transpose(a, b)); });
}

Tensor Tensor::slice(std::int64_t dim, std::int64_t start, std::int64_t end, std::int64_t step) const {
  const int d = wrap_dim("slice", dim, rank());
  if (step < 1) fail<ShapeError>("slice", "the step must be at least 1, got {}", step);
  const std::int64_t n = shape()[d];
  const auto clamp = [n](std::int64_t i) { return std::clamp<std::int64_t>(i < 0 ? i + n : i, 0, n); };
  const std::int64_t first = clamp(start);
  const std::int64_t span = std::max<std::int64_t>(clamp(end) - first, 0);
  step = std::min(step, std::max<std::int64_t>(n, 1));  // picks the same, and cannot overflow a stride
  const std::int64_t count = (span + step - 1) / step;
  Shape s = shape();
  Strides st = strides();
  Strides dense = contiguous_strides(shape());
  const std::int64_t dense_offset = first * dense[d];
  s[d] = count;
  dense[d] *= step;
  const std::int64_t begin = offset() + (count > 0 ? first * st[d] : 0);
  st[d] *= step;
  return record_pick("slice", *this, alias(s, st, begin), {dense, dense_offset});
}

Tensor Tensor::narrow(std::int64_t dim, std::int64_t start, std::int64_t length) const {
  const int d = wrap_dim("narrow", dim, rank());
  const std::int64_t n = shape()[d];
  if (start < 0 || length < 0 || start > n || length > n - start) {
    fail<IndexError>("narrow", "{} elements from {} are not in dim {} of shape {}", length, start, d, shape());
  }
  return slice(d, start, start + length);
}

Tensor Tensor::select(std::int64_t dim, std::int64_t index) const {
  const int d = wrap_dim("select", dim, rank());
  const std::int64_t n = shape()[d];
  const std::int64_t i = index < 0 ? index + n : index;
  if (i < 0 || i >= n) fail<IndexError>("select", "index {} is out of range in dim {} of shape {}", index, d, shape());
  Shape s = shape();
  Strides st = strides();
  Strides dense = contiguous_strides(shape());
  const std::int64_t dense_offset = i * dense[d];
  const std::int64_t begin = offset() + i * st[d];
  s.erase(d);
  st.erase(d);
  dense.erase(d);
  return record_pick("select", *this, alias(s, st, begin), {dense, dense_offset});
}

Tensor Tensor::expand(const Shape& wanted) const {
  const int extra = wanted.size() - rank();
  if (extra < 0) fail<ShapeError>("expand", "shape {} has more dims than {}", shape(), wanted);
  Shape s = wanted;
  Strides st = Dims::filled(wanted.size(), 0);
  for (int i = 0; i < wanted.size(); ++i) {
    if (i < extra) {
      if (s[i] < 0)
        fail<ShapeError>("expand", "{} asks to keep dim {}, which shape {} does not have", wanted, i, shape());
      continue;
    }
    const std::int64_t mine = shape()[i - extra];
    if (s[i] == -1) s[i] = mine;
    if (mine != s[i] && mine != 1) {
      fail<ShapeError>("expand", "shape {} cannot become {}: dim {} is {} and only dims of size 1 are repeated",
                       shape(), wanted, i - extra, mine);
    }
    st[i] = mine == s[i] ? strides()[i - extra] : 0;
  }
  static_cast<void>(trinix::numel(s));  // refuses negative sizes and overflow
  return record("expand", alias(s, st, offset()), {*this}, {},
                [shape = shape()](BackwardContext& ctx) { ctx.give(0, sum_to(ctx.grad(), shape)); });
}

Tensor Tensor::squeeze(const Dims& dims) const {
  const Dims chosen = wrap_dims("squeeze", dims, rank());
  Shape s;
  Strides st;
  for (int i = 0; i < rank(); ++i) {
    if (shape()[i] == 1 && chosen.contains(i)) continue;
    s.push_back(shape()[i]);
    st.push_back(strides()[i]);
  }
  return record("squeeze", alias(s, st, offset()), {*this}, {},
                [shape = shape()](BackwardContext& ctx) { ctx.give(0, ctx.grad().reshape(shape)); });
}

Tensor Tensor::unsqueeze(std::int64_t dim) const {
  const int d = wrap_dim("unsqueeze", dim, rank() + 1);
  Shape s = shape();
  Strides st = strides();
  st.insert(d, d < rank() ? shape()[d] * strides()[d] : 1);
  s.insert(d, 1);
  return record("unsqueeze", alias(s, st, offset()), {*this}, {},
                [shape = shape()](BackwardContext& ctx) { ctx.give(0, ctx.grad().reshape(shape)); });
}

Tensor Tensor::diagonal(std::int64_t diagonal_offset, std::int64_t dim0, std::int64_t dim1) const {
  const int a = wrap_dim("diagonal", dim0, rank());
  const int b = wrap_dim("diagonal", dim1, rank());
  if (a == b) fail<IndexError>("diagonal", "dims {} and {} are the same", dim0, dim1);
  // The least 64-bit integer has no negative.
  const std::int64_t down =
      diagonal_offset < 0 ? -std::max(diagonal_offset, -std::numeric_limits<std::int64_t>::max()) : 0;
  const std::int64_t right = std::max<std::int64_t>(diagonal_offset, 0);
  const std::int64_t count = std::max<std::int64_t>(std::min(shape()[a] - down, shape()[b] - right), 0);
  const auto pick = [&](Strides st) {
    const std::int64_t begin = count > 0 ? down * st[a] + right * st[b] : 0;
    const std::int64_t step = st[a] + st[b];
    st.erase(std::max(a, b));
    st.erase(std::min(a, b));
    st.push_back(step);
    return Selection{st, begin};
  };
  Shape s = shape();
  s.erase(std::max(a, b));
  s.erase(std::min(a, b));
  s.push_back(count);
  const Selection here = pick(strides());
  return record_pick("diagonal", *this, alias(s, here.strides, offset() + here.offset),
                     pick(contiguous_strides(shape())));
}

}  // namespace trinix
