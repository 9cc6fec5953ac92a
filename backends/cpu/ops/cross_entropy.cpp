#include <limits>
#include <vector>

#include <trinix/backends/cpu/parallel.h>
#include <trinix/backends/cpu/vector_math.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/cross_entropy.h>

namespace trinix::cpu {

namespace {

/// Rows are read in pieces of this many elements, which stay in the first-level cache for the second pass over them.
constexpr std::int64_t kPiece = 2048;

/// Elements of a cache line of C. What is left of a row after whole lines is padded to one, so that it is no slower.
template <class C>
constexpr std::int64_t kLine = 64 / sizeof(C);

/// Index of a flat element, as a person would write it.
Dims position_of(const View& v, std::int64_t flat) {
  Dims position = v.shape;
  for (int d = v.rank() - 1; d >= 0; --d) {
    position[d] = flat % v.shape[d];
    flat /= v.shape[d];
  }
  return position;
}

/// The number of targets that count.
template <class Index>
std::int64_t check_targets(const CrossEntropy::Forward& args) {
  const Index* targets = args.targets.as<Index>();
  const std::int64_t rows = args.logits.size(0);
  const std::int64_t classes = args.logits.size(1);
  std::int64_t count = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t t = targets[row];
    if (t == args.ignore_index) continue;
    if (t < 0 || t >= classes) {
      trinix::detail::fail<IndexError>("cross_entropy",
                                       "target {} at {} is not in [0, {}), the classes of the logits, nor is it "
                                       "ignore_index ({})",
                                       t, position_of(args.targets, row), classes, args.ignore_index);
    }
    ++count;
  }
  return count;
}

template <class T>
compute_t<T> largest(compute_t<T> so_far, const T* x, std::int64_t n) {
  using C = compute_t<T>;
#pragma omp simd reduction(max : so_far)
  for (std::int64_t i = 0; i < n; ++i) so_far = std::max(so_far, static_cast<C>(x[i]));
  return so_far;
}

template <class T>
compute_t<T> sum_of_exponentials(const T* x, std::int64_t n, compute_t<T> shift) {
  using C = compute_t<T>;
  C sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += vm::exp(static_cast<C>(x[i]) - shift);
  return sum;
}

/// Maximum and sum of exponentials of what was read so far, kept together: online softmax (Milakov and Gimelshein,
/// arXiv 1805.02867).
template <class C>
struct LogSumExp {
  C max = -std::numeric_limits<C>::infinity();
  C sum = 0;

  template <class T>
  void add(const T* x, std::int64_t n) {
    const std::int64_t lines = n / kLine<C> * kLine<C>;
    C rest[kLine<C>];
    for (std::int64_t i = 0; i < kLine<C>; ++i) {
      rest[i] = i < n - lines ? static_cast<C>(x[lines + i]) : -std::numeric_limits<C>::infinity();
    }
    const C new_max = largest(largest(max, x, lines), rest, kLine<C>);
    if (new_max == -std::numeric_limits<C>::infinity()) return;  // nothing but -inf so far
    if (sum != 0) sum *= vm::exp(max - new_max);
    sum += sum_of_exponentials(x, lines, new_max) + sum_of_exponentials(rest, kLine<C>, new_max);
    max = new_max;
  }
};

template <class T>
compute_t<T> sum_of(const T* x, std::int64_t n) {
  compute_t<T> total = 0;
#pragma omp simd reduction(+ : total)
  for (std::int64_t i = 0; i < n; ++i) total += static_cast<compute_t<T>>(x[i]);
  return total;
}

/// What the gradients of all rows have in common.
template <class C>
struct GradientRule {
  std::int64_t classes;
  std::int64_t ignore_index;
  C smoothing;

  /// dx may be x. `scale` is dloss, over the count for the mean.
  template <class T>
  void row(T* dx, const T* x, std::int64_t target, C lse, C scale) const {
    if (target == ignore_index) {
      std::fill(dx, dx + classes, T(0));
      return;
    }
    const C probability = vm::exp(static_cast<C>(x[target]) - lse);
    const C spread = smoothing / static_cast<C>(classes);
    const std::int64_t lines = classes / kLine<C> * kLine<C>;
    const auto gradient = [&](C logit) { return (vm::exp(logit - lse) - spread) * scale; };
#pragma omp simd
    for (std::int64_t j = 0; j < lines; ++j) dx[j] = T(gradient(static_cast<C>(x[j])));
    C rest[kLine<C>] = {};
    for (std::int64_t j = lines; j < classes; ++j) rest[j - lines] = static_cast<C>(x[j]);
#pragma omp simd
    for (std::int64_t j = 0; j < kLine<C>; ++j) rest[j] = gradient(rest[j]);
    for (std::int64_t j = lines; j < classes; ++j) dx[j] = T(rest[j - lines]);
    dx[target] = T((probability - spread - (1 - smoothing)) * scale);
  }
};

template <class T, class Index>
void forward(const CrossEntropy::Forward& args) {
  using C = compute_t<T>;
  const std::int64_t count = check_targets<Index>(args);
  const std::int64_t rows = args.logits.size(0);
  const std::int64_t classes = args.logits.size(1);
  const Index* targets = args.targets.as<Index>();
  C* lse = args.lse.as<C>();
  std::vector<C> own_losses(args.reduction == LossReduction::none ? 0 : static_cast<std::size_t>(rows));
  C* losses = own_losses.empty() ? args.loss.as<C>() : own_losses.data();
  const C smoothing = static_cast<C>(args.label_smoothing);
  const GradientRule<C> gradient{classes, args.ignore_index, smoothing};
  const C scale =
      args.reduction == LossReduction::mean ? C(1) / static_cast<C>(std::max<std::int64_t>(count, 1)) : C(1);
  parallel_for(rows, std::max<std::int64_t>(kGrain / (8 * classes), 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      LogSumExp<C> running;
      for (std::int64_t at = 0; at < classes; at += kPiece) {
        running.add(args.logits.as<T>() + row * classes + at, std::min(kPiece, classes - at));
      }
      lse[row] = running.max;
      losses[row] = running.sum;
    }
    // Logarithms of many rows at once: one at a time would cost as much as the row.
#pragma omp simd
    for (std::int64_t row = begin; row < end; ++row) lse[row] += vm::log(losses[row]);
    for (std::int64_t row = begin; row < end; ++row) {
      const T* x = args.logits.as<T>() + row * classes;
      const std::int64_t t = targets[row];
      losses[row] = t == args.ignore_index ? C(0) : (1 - smoothing) * (lse[row] - static_cast<C>(x[t]));
      if (smoothing == 0 || t == args.ignore_index) continue;
      losses[row] += smoothing * (lse[row] - sum_of(x, classes) / static_cast<C>(classes));
    }
    if (!args.dlogits.defined) return;
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t at = row * classes;
      gradient.row(args.dlogits.as<T>() + at, args.logits.as<T>() + at, targets[row], lse[row], scale);
    }
  });
  *args.count.as<C>() = static_cast<C>(count);
  if (args.reduction == LossReduction::none) return;
  double total = 0;
  for (std::int64_t row = 0; row < rows; ++row) total += static_cast<double>(losses[row]);
  if (args.reduction == LossReduction::mean && count > 0) total /= static_cast<double>(count);
  *args.loss.as<C>() = static_cast<C>(total);
}

template <class T, class Index>
void backward(const CrossEntropy::Backward& args) {
  using C = compute_t<T>;
  const std::int64_t rows = args.logits.size(0);
  const std::int64_t classes = args.logits.size(1);
  const Index* targets = args.targets.as<Index>();
  const C* lse = args.lse.as<C>();
  const C* dloss = args.dloss.as<C>();
  const std::int64_t dloss_step = args.reduction == LossReduction::none ? args.dloss.stride(0) : 0;
  const C count = args.reduction == LossReduction::mean ? std::max(*args.count.as<C>(), C(1)) : C(1);
  const GradientRule<C> gradient{classes, args.ignore_index, static_cast<C>(args.label_smoothing)};
  parallel_for(rows, std::max<std::int64_t>(kGrain / (8 * classes), 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t at = row * classes;
      gradient.row(args.dlogits.as<T>() + at, args.logits.as<T>() + at, targets[row], lse[row],
                   dloss[row * dloss_step] / count);
    }
  });
}

/// What is left to do when the forward has computed the gradient for dloss = 1.
template <class T>
void scale(const CrossEntropy::Backward& args) {
  using C = compute_t<T>;
  const std::int64_t classes = args.dlogits.size(1);
  const C* dloss = args.dloss.as<C>();
  const std::int64_t dloss_step = args.reduction == LossReduction::none ? args.dloss.stride(0) : 0;
  parallel_for(args.dlogits.size(0), std::max<std::int64_t>(kGrain / classes, 1),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t row = begin; row < end; ++row) {
                   const C factor = dloss[row * dloss_step];
                   if (factor == 1) continue;
                   T* dx = args.dlogits.as<T>() + row * classes;
#pragma omp simd
                   for (std::int64_t j = 0; j < classes; ++j) dx[j] = T(static_cast<C>(dx[j]) * factor);
                 }
               });
}

/// Calls f with the dtype of the logits and that of the targets.
template <class F>
void dispatch(const View& logits, const View& targets, F&& f) {
  dispatch_floating(logits.dtype, "cross_entropy", [&]<class T>() {
    if (targets.dtype == DType::i64) {
      f.template operator()<T, std::int64_t>();
    } else {
      f.template operator()<T, std::int32_t>();
    }
  });
}

void cross_entropy_forward(const CrossEntropy::Forward& args, const Stream&) {
  dispatch(args.logits, args.targets, [&]<class T, class Index>() { forward<T, Index>(args); });
}

void cross_entropy_backward(const CrossEntropy::Backward& args, const Stream&) {
  if (args.scale_only)
    return dispatch_floating(args.dlogits.dtype, "cross_entropy", [&]<class T>() { scale<T>(args); });
  dispatch(args.logits, args.targets, [&]<class T, class Index>() { backward<T, Index>(args); });
}

}  // namespace

void register_cross_entropy() {
  register_kernel<CrossEntropy>(
      {"cpu", Kernel::fused, DeviceType::cpu, 10, nullptr, cross_entropy_forward, cross_entropy_backward});
}

}  // namespace trinix::cpu
