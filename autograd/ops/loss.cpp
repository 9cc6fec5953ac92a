#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/ops/loss.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/precision.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/softmax.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

using detail::fail;

namespace {

void check_cross_entropy(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  check_floating("cross_entropy", logits);
  check_same_device("cross_entropy", logits, targets);
  if (targets.dtype() != DType::i64 && targets.dtype() != DType::i32) {
    fail<DtypeError>("cross_entropy", "the targets are {} of shape {}; class indices must be i64 or i32",
                     targets.dtype(), targets.shape());
  }
  Shape rows = logits.shape();
  if (!rows.empty()) rows.erase(rows.size() - 1);
  if (logits.rank() == 0 || logits.size(-1) == 0 || rows != targets.shape()) {
    fail<ShapeError>("cross_entropy",
                     "logits of shape {} and targets of shape {} do not fit: for targets (...) the "
                     "logits must be (..., V) with V > 0",
                     logits.shape(), targets.shape());
  }
  if (!(options.label_smoothing >= 0 && options.label_smoothing < 1)) {
    fail<ConfigError>("cross_entropy", "label_smoothing is {}; it must be in [0, 1)", options.label_smoothing);
  }
}

/// A row-major tensor in another shape of as many elements.
View reshaped(const Tensor& t, const Shape& shape) {
  View v = t.raw();
  v.shape = shape;
  v.strides = contiguous_strides(shape);
  return v;
}

/// What the fused kernels compute, composed of primitives.
Tensor cross_entropy_reference(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  using Reduction = CrossEntropyOptions::Reduction;
  const Tensor log_p = log_softmax(logits.to(compute_type(logits.dtype())), -1, Kernel::reference);
  const Tensor counts = targets != options.ignore_index;
  const Tensor zero = zeros({}, {DType::i64, targets.device()});
  const Tensor chosen = where(counts, targets, zero);
  Tensor losses = -gather(log_p, -1, chosen.unsqueeze(-1)).squeeze({-1});
  if (options.label_smoothing != 0) {
    losses = losses * (1 - options.label_smoothing) - mean(log_p, {-1}) * options.label_smoothing;
  }
  losses = where(counts, losses, zeros({}, {losses.dtype(), losses.device()}));
  if (options.reduction == Reduction::none) return losses;
  const Tensor total = sum(losses);
  if (options.reduction == Reduction::sum) return total;
  return total / maximum(sum(counts), ones({}, {DType::i64, targets.device()})).to(total.dtype());
}

/// @throws AutogradError for logits whose values somebody else owns.
void check_overwritable(const Tensor& x) {
  const auto& record = x.autograd();
  if (record == nullptr || !record->leaf) return;
  fail<AutogradError>("cross_entropy",
                      "overwrite_logits was asked for logits that are a leaf of shape {}: their gradient would take "
                      "the place of their values; leave the option out",
                      x.shape());
}

/// For logits whose memory holds their gradient for dloss = 1. The write is counted: what others saved of the logits is
/// lost. The last backward scales the gradient in place and gives it away.
Tensor record_overwritten(const Impl<CrossEntropy>* impl, const Tensor& loss, const Tensor& gradient,
                          LossReduction reduction) {
  gradient.storage()->mark_written("cross_entropy");
  return record("cross_entropy", loss, {gradient}, {gradient}, [impl, reduction](BackwardContext& ctx) {
    const Tensor dx = ctx.is_last() ? ctx.saved(0) : ctx.saved(0).clone();
    const Tensor dloss = ctx.grad().contiguous();
    View factors = dloss.raw();
    if (reduction == LossReduction::none) factors = reshaped(dloss, {dloss.numel()});
    const std::int64_t classes = dx.size(-1);
    impl->backward({.dloss = factors,
                    .dlogits = reshaped(dx, {dx.numel() / classes, classes}),
                    .reduction = reduction,
                    .scale_only = true},
                   stream_of(dx.device()));
    ctx.give(0, dx);
  });
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options,
                     KernelChoice kernel) {
  check_cross_entropy(logits, targets, options);
  const Tensor x = logits.contiguous();
  const Tensor labels = targets.contiguous();
  const TensorOptions wide{compute_type(x.dtype()), x.device()};
  const Shape flat{labels.numel()};
  const Shape matrix{labels.numel(), x.size(-1)};
  const bool one_loss = options.reduction != CrossEntropyOptions::Reduction::none;
  const Tensor loss = empty(one_loss ? Shape{} : targets.shape(), wide);
  const Tensor lse = empty(flat, wide);
  const Tensor count = empty({}, wide);
  const bool overwrite = options.overwrite_logits && needs_grad({x});
  const CrossEntropy::Forward args{.logits = reshaped(x, matrix),
                                   .targets = labels.raw(),
                                   .loss = one_loss ? loss.raw() : reshaped(loss, flat),
                                   .lse = lse.raw(),
                                   .count = count.raw(),
                                   .reduction = options.reduction,
                                   .ignore_index = options.ignore_index,
                                   .label_smoothing = options.label_smoothing,
                                   .dlogits = overwrite ? reshaped(x, matrix) : View()};
  const auto* impl = KernelTable<CrossEntropy>::instance().select(args, x.device(), needs_grad({x}), kernel);
  if (impl == nullptr) return cross_entropy_reference(logits, targets, options);
  if (overwrite) check_overwritable(x);
  impl->forward(args, stream_of(x.device()));
  if (overwrite) return record_overwritten(impl, loss, x, options.reduction);
  return record("cross_entropy", loss, {x}, {x, labels, lse, count},
                [impl, options, flat, matrix, one_loss](BackwardContext& ctx) {
                  const Tensor& x = ctx.saved(0);
                  const Tensor dloss = ctx.grad().contiguous();
                  const Tensor dx = empty(x.shape(), {x.dtype(), x.device()});
                  impl->backward({.logits = reshaped(x, matrix),
                                  .targets = ctx.saved(1).raw(),
                                  .lse = ctx.saved(2).raw(),
                                  .count = ctx.saved(3).raw(),
                                  .dloss = one_loss ? dloss.raw() : reshaped(dloss, flat),
                                  .dlogits = reshaped(dx, matrix),
                                  .reduction = options.reduction,
                                  .ignore_index = options.ignore_index,
                                  .label_smoothing = options.label_smoothing},
                                 stream_of(x.device()));
                  ctx.give(0, dx);
                });
}

}  // namespace trinix
