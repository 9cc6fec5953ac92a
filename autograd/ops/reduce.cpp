#include <cmath>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/reduce.h>
#include <trinix/core/ops/scan.h>

namespace trinix {

using detail::fail;

namespace {

/// The shapes of one reduction.
struct Reduction {
  Reduction(const char* op, const Tensor& x, const Dims& dims, bool keepdim) : input(x.shape()), kept(x.shape()) {
    const Dims chosen = wrap_dims(op, dims, x.rank());
    for (const std::int64_t d : chosen) {
      count *= input[static_cast<int>(d)];
      kept[static_cast<int>(d)] = 1;
    }
    for (int d = 0; d < x.rank(); ++d) {
      if (keepdim || !chosen.contains(d)) result.push_back(kept[d]);
    }
  }

  /// A tensor of the result's shape, as a kernel sees it: with the reduced dims of size 1.
  [[nodiscard]] View view(const Tensor& out) const {
    View v = out.raw();
    v.shape = kept;
    v.strides = contiguous_strides(kept);
    return v;
  }
  /// One value per output, repeated over the elements that it was reduced from.
  [[nodiscard]] Tensor spread(const Tensor& value) const { return value.reshape(kept).expand(input); }

  Shape input;
  Shape kept;
  Shape result;
  std::int64_t count = 1;  ///< elements per output
};

Tensor run_reduce(ReduceFn fn, const Tensor& x, const Reduction& r, DType dtype) {
  const Tensor y = empty(r.result, {dtype, x.device()});
  if (y.numel() > 0) run<Reduce>({.fn = fn, .x = x.raw(), .out = r.view(y)}, x.device());
  return y;
}

Tensor to_floating(const Tensor& x) { return is_floating(x.dtype()) ? x : x.to(DType::f32); }

DType sum_dtype(const Tensor& x) { return is_floating(x.dtype()) ? x.dtype() : DType::i64; }

}  // namespace

Tensor sum(const Tensor& x, const Dims& dims, bool keepdim) {
  if (widens({x})) return sum(widened(x), dims, keepdim);
  const Reduction r("sum", x, dims, keepdim);
  return record("sum", run_reduce(ReduceFn::sum, x, r, sum_dtype(x)), {x}, {},
                [r](BackwardContext& ctx) { ctx.give(0, r.spread(ctx.grad())); });
}

Tensor mean(const Tensor& x, const Dims& dims, bool keepdim) {
  if (widens({x})) return mean(widened(x), dims, keepdim);
  const Tensor in = to_floating(x);
  const Reduction r("mean", in, dims, keepdim);
  return record("mean", run_reduce(ReduceFn::mean, in, r, in.dtype()), {in}, {},
                [r](BackwardContext& ctx) { ctx.give(0, r.spread(ctx.grad() / r.count)); });
}

Tensor prod(const Tensor& x, const Dims& dims, bool keepdim) {
  if (widens({x})) return prod(widened(x), dims, keepdim);
  const Reduction r("prod", x, dims, keepdim);
  return record("prod", run_reduce(ReduceFn::prod, x, r, sum_dtype(x)), {x}, {x}, [r](BackwardContext& ctx) {
    // The derivative is the product of the other factors: the whole over the factor where none is zero, the product of
    // the rest at a lone zero, and 0 elsewhere.
    const Tensor x = ctx.saved(0).to(compute_type(ctx.saved(0).dtype()));
    const Tensor is_zero = x == 0;
    const Tensor factors = masked_fill(x, is_zero, 1);
    Dims dims;
    for (int d = 0; d < x.rank(); ++d) {
      if (r.kept[d] != r.input[d]) dims.push_back(d);
    }
    const bool whole = dims.empty();  // only dims of size 1 were reduced: each element is its own product
    const Tensor rest = whole ? factors : prod(factors, dims, /*keepdim=*/true);
    const Tensor zeros_in = whole ? is_zero.to(DType::i64) : sum(is_zero, dims, /*keepdim=*/true);
    const Tensor lone = logical_and(is_zero, zeros_in == 1);
    const Tensor none = full({}, 0, {x.dtype(), x.device()});
    const Tensor others = where(lone, rest, where(zeros_in == 0, rest / factors, none));
    ctx.give(0, (r.spread(ctx.grad()) * others).to(ctx.saved(0).dtype()));
  });
}

Tensor var(const Tensor& x, const Dims& dims, double correction, bool keepdim) {
  if (widens({x})) return var(widened(x), dims, correction, keepdim);
  const Tensor in = to_floating(x);
  const Reduction r("var", in, dims, keepdim);
  const TensorOptions wide{compute_type(in.dtype()), in.device()};
  const Tensor mean = empty(r.result, wide);
  const Tensor y = empty(r.result, wide);
  if (y.numel() > 0) {
    run<Variance>({.x = in.raw(), .mean = r.view(mean), .out = r.view(y), .correction = correction}, in.device());
  }
  return record("var", y.to(in.dtype()), {in}, {in, mean}, [r, correction](BackwardContext& ctx) {
    const Tensor& x = ctx.saved(0);
    const double freedom = std::max(static_cast<double>(r.count) - correction, 0.0);
    const Tensor dx = (x - r.spread(ctx.saved(1))) * r.spread(ctx.grad() * (2 / freedom));
    ctx.give(0, dx.to(x.dtype()));
  });
}

namespace {

/// max and min: elements that tie share the gradient evenly.
Tensor extremum(const char* op, ReduceFn fn, const Tensor& x, const Dims& dims, bool keepdim) {
  const Reduction r(op, x, dims, keepdim);
  if (r.count == 0 && numel(r.result) > 0) {
    fail<ShapeError>(op, "shape {} has no elements along the reduced dims to choose from", x.shape());
  }
  const Tensor y = run_reduce(fn, x, r, x.dtype());
  return record(op, y, {x}, {x, y}, [r](BackwardContext& ctx) {
    const Tensor chosen = ctx.saved(0) == r.spread(ctx.saved(1));
    const Reduction ties = r;
    const Tensor count = empty(r.result, {DType::i64, chosen.device()});
    if (count.numel() > 0) {
      run<Reduce>({.fn = ReduceFn::sum, .x = chosen.raw(), .out = ties.view(count)}, chosen.device());
    }
    const Tensor share = ctx.grad() / count.to(ctx.grad().dtype());
    ctx.give(0, where(chosen, r.spread(share), zeros({}, {share.dtype(), share.device()})));
  });
}

}  // namespace

Tensor max(const Tensor& x, const Dims& dims, bool keepdim) { return extremum("max", ReduceFn::max, x, dims, keepdim); }
Tensor min(const Tensor& x, const Dims& dims, bool keepdim) { return extremum("min", ReduceFn::min, x, dims, keepdim); }

namespace {

Tensor p_norm(const Tensor& x, double p, const Reduction& r) {
  const NoGrad no_grad;
  const DType wide = compute_type(x.dtype());
  if (p == 1) return run_reduce(ReduceFn::sum_abs, x, r, wide);
  if (p == 2) return sqrt(run_reduce(ReduceFn::sum_squares, x, r, wide));
  return pow(run_reduce(ReduceFn::sum, pow(abs(x.to(wide)), p), r, wide), 1 / p);
}

}  // namespace

Tensor norm(const Tensor& x, double p, const Dims& dims, bool keepdim) {
  if (widens({x})) return norm(widened(x), p, dims, keepdim);
  if (!(p > 0)) fail<ConfigError>("norm", "p must be positive, got {}", p);
  const Tensor in = to_floating(x);
  const Reduction r("norm", in, dims, keepdim);
  if (std::isinf(p)) return max(abs(in), dims, keepdim);
  const Tensor y = p_norm(in, p, r);
  return record("norm", y.to(in.dtype()), {in}, {in, y}, [r, p](BackwardContext& ctx) {
    const Tensor x = ctx.saved(0).to(ctx.saved(1).dtype());
    const Tensor y = r.spread(ctx.saved(1));
    const Tensor zero = zeros({}, {x.dtype(), x.device()});
    // d y / d x = sign(x) (|x| / y)^(p-1), and 0 where x is 0 (there y may be 0 too).
    Tensor slope = sign(x);
    if (p == 2) {
      slope = x / y;
    } else if (p != 1) {
      slope = slope * pow(abs(x) / y, p - 1);
    }
    slope = where(x == 0, zero, slope);
    ctx.give(0, (r.spread(ctx.grad()) * slope).to(ctx.saved(0).dtype()));
  });
}

Tensor logsumexp(const Tensor& x, const Dims& dims, bool keepdim) {
  if (widens({x})) return logsumexp(widened(x), dims, keepdim);
  const Tensor in = to_floating(x);
  const Reduction r("logsumexp", in, dims, keepdim);
  const Tensor y = run_reduce(ReduceFn::logsumexp, in, r, compute_type(in.dtype()));
  return record("logsumexp", y.to(in.dtype()), {in}, {in, y}, [r](BackwardContext& ctx) {
    const Tensor& x = ctx.saved(0);
    const Tensor& y = ctx.saved(1);
    // Over only -inf the softmax is taken to be 0, as softmax() does.
    const Tensor shift = where(isinf(y), zeros_like(y), y);
    ctx.give(0, (r.spread(ctx.grad()) * exp(x - r.spread(shift))).to(x.dtype()));
  });
}

Tensor any(const Tensor& x, const Dims& dims, bool keepdim) {
  return run_reduce(ReduceFn::any, x, Reduction("any", x, dims, keepdim), DType::boolean);
}

Tensor all(const Tensor& x, const Dims& dims, bool keepdim) {
  return run_reduce(ReduceFn::all, x, Reduction("all", x, dims, keepdim), DType::boolean);
}

namespace {

Tensor arg_extremum(const char* op, bool largest, const Tensor& x, std::int64_t dim, bool keepdim) {
  const Reduction r(op, x, {dim}, keepdim);
  if (r.count == 0 && numel(r.result) > 0) {
    fail<ShapeError>(op, "dim {} of shape {} has no elements to choose from", dim, x.shape());
  }
  const Tensor y = empty(r.result, {DType::i64, x.device()});
  if (y.numel() > 0) {
    run<ArgReduce>({.largest = largest, .x = x.raw(), .out = r.view(y), .dim = wrap_dim(op, dim, x.rank())},
                   x.device());
  }
  return y;
}

}  // namespace

Tensor argmax(const Tensor& x, std::int64_t dim, bool keepdim) { return arg_extremum("argmax", true, x, dim, keepdim); }
Tensor argmin(const Tensor& x, std::int64_t dim, bool keepdim) {
  return arg_extremum("argmin", false, x, dim, keepdim);
}

namespace {

Tensor scan(const Tensor& x, int dim, bool reverse) {
  const Tensor y = empty(x.shape(), {sum_dtype(x), x.device()});
  if (y.numel() > 0) run<Scan>({.x = x.raw(), .out = y.raw(), .dim = dim, .reverse = reverse}, x.device());
  return y;
}

}  // namespace

Tensor cumsum(const Tensor& x, std::int64_t dim) {
  if (widens({x})) return cumsum(widened(x), dim);
  const int d = wrap_dim("cumsum", dim, x.rank());
  return record("cumsum", scan(x, d, false), {x}, {},
                [d](BackwardContext& ctx) { ctx.give(0, scan(ctx.grad(), d, true)); });
}

}  // namespace trinix
