#include <trinix/backends/cuda/device/reduce.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/scratch.h>
#include <trinix/backends/cuda/table.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/grad_norm.h>

namespace trinix::cuda {

namespace {

constexpr int kThreads = 256;
/// Elements of one block: long enough for its start not to show, short enough to keep 132 multiprocessors even.
constexpr std::int64_t kChunk = 32768;

struct NormChunk {
  const void* data;
  std::int32_t count;
  DType dtype;
  bool vectors;  // the address allows 16-byte loads
};

/// Squares are taken and added in f64, so that nothing overflows: the card converts and multiplies faster than it
/// loads.
template <class T>
__device__ double sum_of_squares(const NormChunk& chunk) {
  constexpr int kWide = kPerAccess<T>;
  const T* x = static_cast<const T*>(chunk.data);
  double sum = 0;
  const int vectors = chunk.vectors ? chunk.count / kWide : 0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += kThreads) {
    const auto v = load_vector<kWide>(x + static_cast<std::int64_t>(i) * kWide);
#pragma unroll
    for (int k = 0; k < kWide; ++k) {
      const auto value = static_cast<double>(widen(v.at[k]));
      sum += value * value;
    }
  }
  for (int i = vectors * kWide + static_cast<int>(threadIdx.x); i < chunk.count; i += kThreads) {
    const auto value = static_cast<double>(widen(x[i]));
    sum += value * value;
  }
  return sum;
}

/// One block per chunk; the last one to finish adds the partial sums up in the order of the chunks, so the result does
/// not depend on which that is. Floor: one read of all gradients.
__global__ void __launch_bounds__(kThreads)
    grad_norm_kernel(const NormChunk* chunks, double* partial, unsigned* finished, double* out) {
  __shared__ double shared[kThreads / kWarp];
  __shared__ bool last;
  const NormChunk chunk = chunks[blockIdx.x];
  double sum = 0;
  switch (chunk.dtype) {
    case DType::f64:
      sum = sum_of_squares<double>(chunk);
      break;
    case DType::f32:
      sum = sum_of_squares<float>(chunk);
      break;
    case DType::bf16:
      sum = sum_of_squares<bfloat16>(chunk);
      break;
    default:
      sum = sum_of_squares<float16>(chunk);
      break;
  }
  sum = block_combine<kThreads>(sum, Plus(), shared);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    __threadfence();
    last = atomicAdd(finished, 1U) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  double total = 0;
#pragma unroll 8  // loads in flight: there are thousands of sums, and nothing else runs any more
  for (unsigned i = threadIdx.x; i < gridDim.x; i += kThreads) total += __ldcg(partial + i);
  total = block_combine<kThreads>(total, Plus(), shared);
  if (threadIdx.x != 0) return;
  *out = sqrt(total);
  *finished = 0;  // for the next launch
}

TableContents make_table(std::span<const Flat> tensors) {
  std::vector<NormChunk> chunks;
  for (const Flat& t : tensors) {
    dispatch_floating(t.dtype, "grad_norm", [&]<class T>() {});  // refuses integers
    for (std::int64_t begin = 0; begin < t.count; begin += kChunk) {
      const char* data = t.as<const char>() + begin * static_cast<std::int64_t>(size_of(t.dtype));
      chunks.push_back({data, static_cast<std::int32_t>(std::min(kChunk, t.count - begin)), t.dtype,
                        reinterpret_cast<std::uintptr_t>(data) % 16 == 0});
    }
  }
  // Behind the chunks: the count of finished blocks.
  return {table_bytes(chunks, sizeof(NormChunk)), static_cast<std::int64_t>(chunks.size())};
}

void grad_norm_forward(const GradNorm::Forward& args, const Stream& stream) {
  static TableCache<Flat> tables;
  const TableView table = tables.find(args.tensors, stream, make_table);
  if (table.rows == 0) return backend_of(stream.device).zero(args.out.data, sizeof(double), stream);
  const auto* chunks = static_cast<const NormChunk*>(table.data);
  auto* finished = static_cast<unsigned*>(table.data) + table.rows * static_cast<std::int64_t>(sizeof(NormChunk) / 4);
  const Scratch partial(static_cast<std::size_t>(table.rows) * sizeof(double), stream);
  launch("grad_norm", grad_norm_kernel, {.grid = dim3(static_cast<unsigned>(table.rows)), .block = dim3(kThreads)},
         stream, chunks, partial.as<double>(), finished, args.out.as<double>());
}

}  // namespace

void register_grad_norm() {
  register_kernel<GradNorm>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, grad_norm_forward, nullptr});
}

}  // namespace trinix::cuda
