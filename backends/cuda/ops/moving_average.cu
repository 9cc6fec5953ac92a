#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/table.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/moving_average.h>

namespace trinix::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kChunk = 16384;  // elements of one block

struct AverageChunk {
  const void* value;
  void* average;
  std::int32_t count;
  DType dtype;   // of the value
  bool vectors;  // both addresses allow vector access
};

template <class T, int kVector>
__device__ void follow(const AverageChunk& chunk, compute_t<T> weight, std::int64_t at) {
  using C = compute_t<T>;
  const auto value = load_vector<kVector>(static_cast<const T*>(chunk.value) + at);
  auto average = load_vector<kVector>(static_cast<const C*>(chunk.average) + at);
#pragma unroll
  for (int k = 0; k < kVector; ++k) {
    average.at[k] = fma(weight, static_cast<C>(widen(value.at[k])) - average.at[k], average.at[k]);
  }
  store_vector(static_cast<C*>(chunk.average) + at, average);
}

template <class T>
__device__ void follow_chunk(const AverageChunk& chunk, double weight) {
  constexpr int kVector = kPerAccess<compute_t<T>>;
  const auto share = static_cast<compute_t<T>>(weight);
  const int vectors = chunk.vectors ? chunk.count / kVector : 0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += kThreads) {
    follow<T, kVector>(chunk, share, static_cast<std::int64_t>(i) * kVector);
  }
#pragma unroll 1
  for (int i = vectors * kVector + static_cast<int>(threadIdx.x); i < chunk.count; i += kThreads) {
    follow<T, 1>(chunk, share, i);
  }
}

/// One block per chunk of a tensor. Floor: one read of the value, one read and one write of the average.
__global__ void __launch_bounds__(kThreads) moving_average_kernel(const AverageChunk* chunks, double weight) {
  const AverageChunk chunk = chunks[blockIdx.x];
  switch (chunk.dtype) {
    case DType::f64:
      return follow_chunk<double>(chunk, weight);
    case DType::f32:
      return follow_chunk<float>(chunk, weight);
    case DType::bf16:
      return follow_chunk<bfloat16>(chunk, weight);
    default:
      return follow_chunk<float16>(chunk, weight);
  }
}

TableContents make_table(std::span<const MovingAverageItem> items) {
  std::vector<AverageChunk> chunks;
  for (const MovingAverageItem& item : items) {
    dispatch_floating(item.value.dtype, "moving_average", [&]<class T>() {});  // refuses integers
    for (std::int64_t begin = 0; begin < item.value.count; begin += kChunk) {
      const auto at = [begin](const Flat& t) {
        return t.as<char>() + begin * static_cast<std::int64_t>(size_of(t.dtype));
      };
      const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
      const auto count = static_cast<std::int32_t>(std::min(kChunk, item.value.count - begin));
      chunks.push_back({at(item.value), at(item.average), count, item.value.dtype,
                        aligned(at(item.value)) && aligned(at(item.average))});
    }
  }
  return {table_bytes(chunks), static_cast<std::int64_t>(chunks.size())};
}

void moving_average_forward(const MovingAverage::Forward& args, const Stream& stream) {
  static TableCache<MovingAverageItem> tables;
  const TableView table = tables.find(args.items, stream, make_table);
  launch("moving_average", moving_average_kernel,
         {.grid = dim3(static_cast<unsigned>(table.rows)), .block = dim3(kThreads)}, stream,
         static_cast<const AverageChunk*>(table.data), args.weight);
}

}  // namespace

void register_moving_average() {
  register_kernel<MovingAverage>(
      {"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, moving_average_forward, nullptr});
}

}  // namespace trinix::cuda
