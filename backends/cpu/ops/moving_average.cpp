#include <trinix/backends/cpu/pieces.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/moving_average.h>

namespace trinix::cpu {

namespace {

template <class T>
void follow(const MovingAverageItem& item, double weight, std::int64_t begin, std::int64_t end) {
  using C = compute_t<T>;
  const T* __restrict value = item.value.as<T>() + begin;
  C* __restrict average = item.average.as<C>() + begin;
  const C share = C(weight);
  const std::int64_t n = end - begin;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) average[i] += share * (static_cast<C>(value[i]) - average[i]);
}

void moving_average_forward(const MovingAverage::Forward& args, const Stream&) {
  for (const MovingAverageItem& item : args.items)
    dispatch_floating(item.value.dtype, "moving_average", []<class T>() {});
  const Pieces pieces(args.items.size(), [&](std::size_t i) { return args.items[i].value.count; });
  pieces.for_each(1, [&](std::int64_t, std::size_t i, std::int64_t begin, std::int64_t end) {
    const MovingAverageItem& item = args.items[i];
    dispatch_floating(item.value.dtype, "moving_average", [&]<class T>() { follow<T>(item, args.weight, begin, end); });
  });
}

}  // namespace

void register_moving_average() {
  register_kernel<MovingAverage>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, moving_average_forward, nullptr});
}

}  // namespace trinix::cpu
