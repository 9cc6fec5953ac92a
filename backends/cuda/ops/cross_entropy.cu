#include <trinix/backends/cuda/cross_entropy.cuh>
#include <trinix/backends/cuda/index_check.cuh>
#include <trinix/backends/cuda/scratch.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/index.h>
#include <trinix/core/ops/cross_entropy.h>

namespace trinix::cuda {

namespace {

constexpr int kSumThreads = 1024;

/// The losses of all rows, added in a fixed order in f64.
template <class C>
__global__ void __launch_bounds__(kSumThreads)
    sum_losses_kernel(const C* losses, std::int64_t rows, const C* count, C* loss) {
  __shared__ double shared[kSumThreads / kWarp];
  double sum = 0;
#pragma unroll 8
  for (std::int64_t row = threadIdx.x; row < rows; row += kSumThreads) sum += static_cast<double>(losses[row]);
  sum = block_combine<kSumThreads>(sum, Plus(), shared);
  if (threadIdx.x != 0) return;
  if (count != nullptr && *count > C(0)) sum /= static_cast<double>(*count);
  *loss = static_cast<C>(sum);
}

/// A warp is enough for a row of so many bytes; most of what it reads again is then still in the first-level cache.
constexpr std::int64_t kWarpRowBytes = 4096;
constexpr int kRowThreads = 512;
constexpr std::int64_t kOwnShared = 1024;  ///< at most, of the kernels themselves
constexpr int kScaleBlocks = 4;            ///< per multiprocessor

/// Calls f.operator()<kThreads, kWidth>(shape) with what suits the rows.
template <class T, class F>
void with_rows(const CrossEntropyRows<T>& p, F f) {
  constexpr int kWidth = kPerAccess<T>;
  // Vectors are cut alike from both: possible where they lie alike.
  const auto from = reinterpret_cast<std::uintptr_t>(p.logits == nullptr ? p.dlogits : p.logits);
  const auto to = reinterpret_cast<std::uintptr_t>(p.dlogits == nullptr ? p.logits : p.dlogits);
  const bool alike = (from - to) % 16 == 0;
  const bool short_rows = p.classes * static_cast<std::int64_t>(sizeof(T)) <= kWarpRowBytes;
  const auto blocks = static_cast<unsigned>(short_rows ? ceil_div(p.rows, kWarpRows) : p.rows);
  const LaunchShape shape{.grid = dim3(blocks), .block = short_rows ? dim3(kWarp, kWarpRows) : dim3(kRowThreads)};
  if (short_rows) {
    alike ? f.template operator()<kWarp, kWidth>(shape) : f.template operator()<kWarp, 1>(shape);
  } else {
    alike ? f.template operator()<kRowThreads, kWidth>(shape) : f.template operator()<kRowThreads, 1>(shape);
  }
}

template <class T>
void queue_rows(const CrossEntropyRows<T>& p, const Stream& stream) {
  const std::int64_t row_bytes = p.classes * static_cast<std::int64_t>(sizeof(T));
  const bool stage = p.dlogits != nullptr && row_bytes <= shared_limit(stream.device) - kOwnShared;
  with_rows(p, [&]<int kThreads, int kWidth>(LaunchShape shape) {
    if constexpr (kThreads != kWarp && kWidth != 1) {
      if (stage) {
        shape.shared_bytes = static_cast<std::size_t>(row_bytes);
        return launch("cross_entropy", cross_entropy_kernel<kThreads, kWidth, true, T>, shape, stream, p);
      }
    }
    launch("cross_entropy", cross_entropy_kernel<kThreads, kWidth, false, T>, shape, stream, p);
  });
}

void cross_entropy_forward(const CrossEntropy::Forward& args, const Stream& stream) {
  const std::int64_t rows = args.logits.size(0);
  const bool one_loss = args.reduction != LossReduction::none;
  const bool mean = args.reduction == LossReduction::mean;
  const IndexRule rule{.size = args.logits.size(1),
                       .may_ignore = true,
                       .ignored = args.ignore_index,
                       .site = target_fault_site("cross_entropy")};
  View targets = args.targets;  // row-major, so one dim will do
  targets.shape = {rows};
  targets.strides = {1};
  dispatch_floating(args.logits.dtype, "cross_entropy", [&]<class T>() {
    using C = compute_t<T>;
    C* const count = args.count.as<C>();
    dispatch_index(targets,
                   [&]<class Index>() { check_indices<Index>("cross_entropy", targets, rule, count, stream); });
    const Scratch own_losses(one_loss ? static_cast<std::size_t>(rows) * sizeof(C) : 0, stream);
    C* const losses = one_loss ? own_losses.as<C>() : args.loss.as<C>();
    const CrossEntropyRows<T> p{
        .logits = args.logits.as<T>(),
        .targets = targets.data,
        .wide_targets = targets.dtype == DType::i64,
        .dlogits = args.dlogits.defined ? args.dlogits.as<T>() : nullptr,
        .losses = losses,
        .lse = args.lse.as<C>(),
        .count = mean ? count : nullptr,
        .dloss = nullptr,
        .dloss_step = 0,
        .rows = rows,
        .classes = args.logits.size(1),
        .ignore_index = args.ignore_index,
        .smoothing = static_cast<C>(args.label_smoothing),
        .spread = static_cast<C>(args.label_smoothing / static_cast<double>(args.logits.size(1)))};
    queue_rows(p, stream);
    if (!one_loss) return;
    launch("cross_entropy", sum_losses_kernel<C>, {.grid = dim3(1), .block = dim3(kSumThreads)}, stream, losses, rows,
           p.count, args.loss.as<C>());
  });
}

void cross_entropy_backward(const CrossEntropy::Backward& args, const Stream& stream) {
  dispatch_floating(args.dlogits.dtype, "cross_entropy", [&]<class T>() {
    using C = compute_t<T>;
    const bool mean = args.reduction == LossReduction::mean;
    const CrossEntropyRows<T> p{
        .logits = args.scale_only ? nullptr : args.logits.as<T>(),
        .targets = args.targets.data,
        .wide_targets = args.targets.dtype == DType::i64,
        .dlogits = args.dlogits.as<T>(),
        .losses = nullptr,
        .lse = args.scale_only ? nullptr : args.lse.as<C>(),
        .count = mean && !args.scale_only ? args.count.as<C>() : nullptr,
        .dloss = args.dloss.as<C>(),
        .dloss_step = args.reduction == LossReduction::none ? args.dloss.stride(0) : 0,
        .rows = args.dlogits.size(0),
        .classes = args.dlogits.size(1),
        .ignore_index = args.ignore_index,
        .smoothing = static_cast<C>(args.label_smoothing),
        .spread = static_cast<C>(args.label_smoothing / static_cast<double>(args.dlogits.size(1)))};
    with_rows(p, [&]<int kThreads, int kWidth>(LaunchShape shape) {
      if (args.scale_only) {
        shape.grid.x = std::min(shape.grid.x, static_cast<unsigned>(multiprocessors(stream) * kScaleBlocks));
        launch("cross_entropy", cross_entropy_scale_kernel<kThreads, kWidth, T>, shape, stream, p);
      } else {
        launch("cross_entropy", cross_entropy_backward_kernel<kThreads, kWidth, T>, shape, stream, p);
      }
    });
  });
}

}  // namespace

void register_cross_entropy() {
  register_kernel<CrossEntropy>(
      {"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, cross_entropy_forward, cross_entropy_backward});
}

}  // namespace trinix::cuda
