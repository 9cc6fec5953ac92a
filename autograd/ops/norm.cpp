#include <optional>
#include <type_traits>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/norm.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/ops/unary_call.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/layer_norm.h>
#include <trinix/core/ops/rms_norm.h>

namespace trinix {

using detail::fail;

namespace {

/// One call of any of the ops of core/ops/norm_arguments.h.
struct NormCall {
  Tensor x;
  Tensor branch = {};
  Tensor weight;
  Tensor bias;
  double eps;
  KernelChoice kernel;
  BranchDropout dropout = {};
  Activation activation = {};
};

template <class Op>
inline constexpr bool kCentred = std::is_same_v<Op, LayerNorm> || std::is_same_v<Op, AddLayerNorm>;
template <class Op>
inline constexpr bool kAdds = std::is_same_v<Op, AddLayerNorm> || std::is_same_v<Op, AddRmsNorm>;
template <class Op>
inline constexpr bool kActivated = std::is_same_v<Op, RmsNormActivation>;

void check_parameters(const char* op, const NormCall& c) {
  check_floating(op, c.x);
  if (c.x.rank() == 0) fail<ShapeError>(op, "the input has no dims; the last dim is normalised, so give it one");
  for (const Tensor* t : {&c.weight, &c.bias}) {
    if (!t->defined()) continue;
    const char* role = t == &c.weight ? "weight" : "bias";
    check_same_device(op, c.x, *t);
    if (t->dtype() != c.x.dtype()) {
      fail<DtypeError>(op, "the input is {}, but the {} is {}; convert one with to()", c.x.dtype(), role, t->dtype());
    }
    if (t->rank() != 1 || t->size(0) != c.x.size(-1)) {
      fail<ShapeError>(op, "the {} has shape {}, but the last dim of the input of shape {} asks for [{}]", role,
                       t->shape(), c.x.shape(), c.x.size(-1));
    }
  }
}

void check_branch(const char* op, const NormCall& c) {
  check_same_device(op, c.x, c.branch);
  if (c.branch.shape() != c.x.shape()) {
    fail<ShapeError>(op, "x has shape {}, the branch {}; they must be equal", c.x.shape(), c.branch.shape());
  }
  if (c.branch.dtype() != c.x.dtype()) {
    fail<DtypeError>(op, "x is {}, the branch {}; convert one with to()", c.x.dtype(), c.branch.dtype());
  }
  if (!(c.dropout.p >= 0 && c.dropout.p <= 1)) {
    fail<ConfigError>(op, "the probability of dropping must be between 0 and 1, got {}", c.dropout.p);
  }
}

Tensor dense(const Tensor& t) { return t.defined() ? t.contiguous() : t; }
View view_of(const Tensor& t) { return t.defined() ? t.raw() : View{}; }

/// A row-major tensor as (rows, C).
View rows_of(const Tensor& t) {
  if (!t.defined()) return {};
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
  if (!t.defined()) return {};
  View v = t.raw();
  v.shape = {v.numel()};
  v.strides = {1};
  return v;
}

/// What the kernels compute from s on, composed of primitives.
template <class Op>
Tensor reference(const Tensor& s, const NormCall& c) {
  const Tensor wide = s.to(compute_type(s.dtype()));
  const Tensor centred = kCentred<Op> ? wide - mean(wide, {-1}, /*keepdim=*/true) : wide;
  Tensor z = centred * rsqrt(mean(square(centred), {-1}, /*keepdim=*/true) + c.eps);
  if (c.weight.defined()) z = z * c.weight.to(z.dtype());
  if (c.bias.defined()) z = z + c.bias.to(z.dtype());
  if constexpr (kActivated<Op>) z = unary_call(Op::kName, unary_of(c.activation), z);
  return z.to(s.dtype());
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

/// What of a call its backward needs besides tensors.
struct NormScalars {
  double dropout;
  RandomState random;
  Activation activation;
};

/// The inputs are x, branch, weight, bias; saved are s, weight, bias, mean, rstd; y is the last output.
template <class Op>
void backward(const Impl<Op>& impl, const NormScalars& scalars, BackwardContext& ctx) {
  const Tensor& s = ctx.saved(0);
  const Tensor dy = ctx.grad(kAdds<Op> ? 1 : 0).contiguous();
  const Tensor dsum = kAdds<Op> && ctx.has_grad(0) ? ctx.grad(0).contiguous() : Tensor();
  const bool masked = scalars.dropout > 0;
  const bool needs_dx = ctx.needs(0) || (ctx.needs(1) && !masked);
  const Tensor dx = needs_dx ? empty(s.shape(), {s.dtype(), s.device()}) : Tensor();
  const Tensor dbranch = masked && ctx.needs(1) ? empty(s.shape(), {s.dtype(), s.device()}) : Tensor();
  const AffineTargets affine(ctx, 2, 3);
  impl.backward({.s = rows_of(s),
                 .weight = view_of(ctx.saved(1)),
                 .bias = view_of(ctx.saved(2)),
                 .mean = flat(ctx.saved(3)),
                 .rstd = flat(ctx.saved(4)),
                 .dsum = rows_of(dsum),
                 .dy = rows_of(dy),
                 .dx = rows_of(dx),
                 .dbranch = rows_of(dbranch),
                 .dweight = view_of(affine.weight),
                 .dbias = view_of(affine.bias),
                 .accumulate_dweight = accumulates(affine.weight),
                 .accumulate_dbias = accumulates(affine.bias),
                 .dropout = scalars.dropout,
                 .random = scalars.random,
                 .activation = scalars.activation},
                stream_of(s.device()));
  ctx.give(0, dx);
  ctx.give(1, masked ? dbranch : dx);
}

/// The sum (undefined without a branch) and y.
template <class Op>
std::pair<Tensor, Tensor> normalise(NormCall call) {
  if (widens({call.x, call.branch, call.weight, call.bias})) {
    for (Tensor* t : {&call.x, &call.branch, &call.weight, &call.bias}) *t = widened(*t);
  }
  check_parameters(Op::kName, call);
  if constexpr (kAdds<Op>) check_branch(Op::kName, call);
  if (call.dropout.p == 1) {  // no threshold drops everything
    call.branch = dropout(call.branch, 1);
    call.dropout.p = 0;
  }
  const Tensor x = call.x.contiguous();
  const Tensor branch = dense(call.branch);
  const Tensor w = dense(call.weight);
  const Tensor b = dense(call.bias);
  const TensorOptions like_x{x.dtype(), x.device()};
  const Tensor sum = kAdds<Op> ? empty(x.shape(), like_x) : Tensor();
  const Tensor y = empty(x.shape(), like_x);
  const Tensor mean = kCentred<Op> ? statistic_of(x) : Tensor();
  const Tensor rstd = statistic_of(x);
  NormForward args{.x = rows_of(x),
                   .branch = rows_of(branch),
                   .weight = view_of(w),
                   .bias = view_of(b),
                   .sum = rows_of(sum),
                   .y = rows_of(y),
                   .mean = flat(mean),
                   .rstd = flat(rstd),
                   .eps = call.eps,
                   .dropout = call.dropout.p,
                   .activation = call.activation};
  const bool recorded = needs_grad({x, branch, w, b});
  const auto* impl = KernelTable<Op>::instance().select(args, x.device(), recorded, call.kernel);
  if (impl == nullptr) {
    if constexpr (!kAdds<Op>) return {Tensor(), reference<Op>(x, call)};
    const Tensor s = x + dropout(branch, call.dropout.p, call.dropout.generator);
    return {s, reference<Op>(s, call)};
  }
  if (args.dropout > 0) {
    Generator& source = call.dropout.generator != nullptr ? *call.dropout.generator : default_generator();
    args.random = source.reserve(static_cast<std::uint64_t>(x.numel()));
  }
  if (y.numel() > 0) impl->forward(args, stream_of(x.device()));
  const NormScalars scalars{args.dropout, args.random, args.activation};
  const Tensor saved_bias = kActivated<Op> ? b : Tensor();
  const auto run_backward = [impl, scalars](BackwardContext& ctx) { backward<Op>(*impl, scalars, ctx); };
  if constexpr (kAdds<Op>) {
    record_all(Op::kName, {sum, y}, {x, branch, w, b}, {sum, w, saved_bias, mean, rstd}, run_backward);
  } else {
    record(Op::kName, y, {x, branch, w, b}, {x, w, saved_bias, mean, rstd}, run_backward);
  }
  return {sum, y};
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, KernelChoice kernel) {
  return normalise<LayerNorm>({.x = x, .weight = weight, .bias = bias, .eps = eps, .kernel = kernel}).second;
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, KernelChoice kernel) {
  return normalise<RmsNorm>({.x = x, .weight = weight, .bias = bias, .eps = eps, .kernel = kernel}).second;
}

Tensor rms_norm_activation(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation, double eps,
                           KernelChoice kernel) {
  return normalise<RmsNormActivation>(
             {.x = x, .weight = weight, .bias = bias, .eps = eps, .kernel = kernel, .activation = activation})
      .second;
}

std::pair<Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& branch, const Tensor& weight,
                                         const Tensor& bias, double eps, KernelChoice kernel, BranchDropout dropout) {
  return normalise<AddLayerNorm>(
      {.x = x, .branch = branch, .weight = weight, .bias = bias, .eps = eps, .kernel = kernel, .dropout = dropout});
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& branch, const Tensor& weight, const Tensor& bias,
                                       double eps, KernelChoice kernel, BranchDropout dropout) {
  return normalise<AddRmsNorm>(
      {.x = x, .branch = branch, .weight = weight, .bias = bias, .eps = eps, .kernel = kernel, .dropout = dropout});
}

}  // namespace trinix
