#include <trinix/backends/cuda/attention/tiles.cuh>

namespace trinix::cuda {

namespace {

constexpr int kLanes = 16;  ///< per row: at most 128 elements of 2 bytes, 16 bytes each
constexpr int kThreads = 256;

/// delta_i = dout_i . out_i - dlse_i and lse in the base of exp2. Floor: one read of out and dout.
template <class T>
__global__ void __launch_bounds__(kThreads) rows_kernel(const __grid_constant__ AttentionBackwardTask task) {
  const AttentionProblem& p = task.problem;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  const std::int64_t rows = static_cast<std::int64_t>(p.batch) * p.heads * task.padded_queries;
  const int chunk = static_cast<int>(threadIdx.x) % kLanes;
  const int head = static_cast<int>(row / task.padded_queries);
  const int query = static_cast<int>(row % task.padded_queries);
  const bool there = row < rows && query < p.queries;
  float sum = 0;
  if (there && chunk * 8 < p.depth) {
    const T* out = head_of<T>(task.out, head / p.heads, head % p.heads) + query * task.out.row + chunk * 8;
    const T* dout = head_of<T>(task.dout, head / p.heads, head % p.heads) + query * task.dout.row + chunk * 8;
    const auto a = load_vector<8>(out);
    const auto b = load_vector<8>(dout);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum += widen(a.at[i]) * widen(b.at[i]);
  }
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, mask);
  if (chunk != 0 || row >= rows) return;
  // +inf makes every probability of the row 0: of rows that see nothing, and of those behind the last.
  float lse2 = INFINITY;
  if (there) {
    const std::int64_t at = static_cast<std::int64_t>(head) * p.queries + query;
    const float lse = task.lse[at];
    if (lse != -INFINITY) lse2 = lse * 1.4426950408889634F;
    if (task.dlse != nullptr) sum -= task.dlse[at];
  }
  task.lse2[row] = lse2;
  task.delta[row] = there && lse2 != INFINITY ? sum : 0.0F;
}

/// A row-major copy of an operand whose rows cannot be read 16 bytes at a time.
__global__ void __launch_bounds__(kThreads)
    gather_kernel(HeadsView from, std::uint16_t* to, int length, int heads, int depth, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t d = i % depth;
  const std::int64_t h = i / depth % heads;
  const std::int64_t s = i / depth / heads % length;
  const std::int64_t b = i / depth / heads / length;
  to[i] =
      static_cast<const std::uint16_t*>(from.data)[b * from.batch + s * from.row + h * from.head + d * from.element];
}

}  // namespace

template <class T>
void run_backward_rows(const AttentionBackwardTask& task, const Stream& stream) {
  const AttentionProblem& p = task.problem;
  const std::int64_t rows = static_cast<std::int64_t>(p.batch) * p.heads * task.padded_queries;
  launch("attention", rows_kernel<T>,
         {.grid = dim3(static_cast<unsigned>(ceil_div(rows, kThreads / kLanes))), .block = dim3(kThreads)}, stream,
         task);
}
template void run_backward_rows<bfloat16>(const AttentionBackwardTask&, const Stream&);
template void run_backward_rows<float16>(const AttentionBackwardTask&, const Stream&);

HeadsView gather_queries(const HeadsView& from, const AttentionProblem& p, void* to, const Stream& stream) {
  const std::int64_t count = static_cast<std::int64_t>(p.batch) * p.queries * p.heads * p.depth;
  launch("attention", gather_kernel,
         {.grid = dim3(static_cast<unsigned>(ceil_div(count, kThreads))), .block = dim3(kThreads)}, stream, from,
         static_cast<std::uint16_t*>(to), p.queries, p.heads, p.depth, count);
  const std::int64_t row = static_cast<std::int64_t>(p.heads) * p.depth;
  return {.data = to, .batch = row * p.queries, .row = row, .head = p.depth};
}

}  // namespace trinix::cuda
