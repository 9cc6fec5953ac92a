#include <cub/device/device_radix_sort.cuh>

#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/radix_sort.h>

namespace trinix::cuda {

template <class K>
void SortedPairs<K>::sort(int bits, const Stream& stream) {
  if (count_ == 0) return;
  const DeviceGuard guard(stream.device.index);
  K* const k = keys_.template as<K>();
  auto* const n = numbers_.template as<std::uint32_t>();
  cub::DoubleBuffer<K> keys(second_ ? k + count_ : k, second_ ? k : k + count_);
  cub::DoubleBuffer<std::uint32_t> numbers(second_ ? n + count_ : n, second_ ? n : n + count_);
  const auto native = static_cast<cudaStream_t>(stream.native);
  std::size_t bytes = 0;
  const auto run = [&](void* temporary) {
    check(cub::DeviceRadixSort::SortPairs(temporary, bytes, keys, numbers, count_, 0, bits, native), "radix sort");
  };
  run(nullptr);
  const Scratch temporary(bytes, stream);
  run(temporary.as<void>());
  second_ = keys.Current() != k;
}

template class SortedPairs<std::uint32_t>;
template class SortedPairs<std::uint64_t>;

}  // namespace trinix::cuda
