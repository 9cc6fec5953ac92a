#include <cfloat>

#include <trinix/backends/cuda/attention/tiles.cuh>

namespace trinix::cuda {

namespace {

constexpr int kLanes = 16;  ///< per row
constexpr int kThreads = 256;

/// Eight elements from column `first` on, zeros behind the last.
template <class T>
__device__ Vector<T, 8> load_row(const T* row, const HeadsView& v, int first, int depth) {
  if (v.vectors) return load_vector<8>(row + first);
  Vector<T, 8> values;
#pragma unroll
  for (int i = 0; i < 8; ++i) values.at[i] = first + i < depth ? row[(first + i) * v.element] : T::from_bits(0);
  return values;
}

/// delta_i = dout_i . out_i - dlse_i and lse in the base of exp2. Floor: one read of out and dout.
template <class T>
__global__ void __launch_bounds__(kThreads) rows_kernel(const __grid_constant__ AttentionBackwardTask task) {
  const AttentionProblem& p = task.problem;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  const std::int64_t rows = static_cast<std::int64_t>(p.batch) * p.heads * task.padded_queries;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int head = min(static_cast<int>(row / task.padded_queries), p.batch * p.heads - 1);
  const int b = head / p.heads;
  const int h = head % p.heads;
  const int query = static_cast<int>(row % task.padded_queries);
  const Sequence l(p, b);
  const bool there = row < rows && query < l.queries;
  float sum = 0;
  if (there) {
    const T* out = queries_of<T>(task.out, l, b, h) + query * task.out.row;
    const T* dout = queries_of<T>(task.dout, l, b, h) + query * task.dout.row;
    for (int first = lane * 8; first < p.value_depth; first += kLanes * 8) {
      const auto x = load_row(out, task.out, first, p.value_depth);
      const auto y = load_row(dout, task.dout, first, p.value_depth);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum += widen(x.at[i]) * widen(y.at[i]);
    }
  }
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, mask);
  // The rows that the last tile of a sequence reads behind its end belong to it; those after them to another.
  if (lane != 0 || row >= rows || query >= (l.queries + 127) / 128 * 128) return;
  // +inf makes every probability of the row 0: of rows that see nothing; and so does the largest number, of rows behind
  // the last, in which nobody has to look for what is not finite.
  float lse2 = there ? INFINITY : FLT_MAX;
  if (there) {
    const std::int64_t at = b * p.lse_batch + h * p.lse_head + l.query_start + query;
    const float lse = task.lse[at];
    if (lse != -INFINITY) lse2 = lse * 1.4426950408889634F;
    if (task.dlse != nullptr) sum -= task.dlse[at];
  }
  const std::int64_t to = padded_row(task, l, b, h) + query;
  task.lse2[to] = lse2;
  const float delta = there && lse2 != INFINITY ? sum : 0.0F;
  task.delta[to] = delta;
  const float check = fmaf(lse2, 0.0F, delta * 0.0F);
  if (task.suspect != nullptr && check != check) *task.suspect = 1;
}

struct GatherShape {
  int length, heads, depth, columns;
  std::int64_t count;
};

/// A row-major copy of an operand whose rows cannot be read 16 bytes at a time, padded by zeros.
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const HeadsView from, std::uint16_t* to, const GatherShape shape) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= shape.count) return;
  const std::int64_t d = i % shape.columns;
  const std::int64_t h = i / shape.columns % shape.heads;
  const std::int64_t s = i / shape.columns / shape.heads % shape.length;
  const std::int64_t b = i / shape.columns / shape.heads / shape.length;
  const auto* const elements = static_cast<const std::uint16_t*>(from.data);
  to[i] =
      d < shape.depth ? elements[b * from.batch + s * from.row + h * from.head + d * from.element] : std::uint16_t{0};
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

HeadsView gather_rows(const View& from, void* to, int columns, const Stream& stream) {
  const GatherShape shape{.length = static_cast<int>(from.size(1)),
                          .heads = static_cast<int>(from.size(2)),
                          .depth = static_cast<int>(from.size(3)),
                          .columns = columns,
                          .count = from.size(0) * from.size(1) * from.size(2) * columns};
  launch("attention", gather_kernel,
         {.grid = dim3(static_cast<unsigned>(ceil_div(shape.count, kThreads))), .block = dim3(kThreads)}, stream,
         heads_view(from), static_cast<std::uint16_t*>(to), shape);
  const std::int64_t row = static_cast<std::int64_t>(shape.heads) * columns;
  return {.data = to, .batch = from.size(0) == 1 ? 0 : row * shape.length, .row = row, .head = columns};
}

}  // namespace trinix::cuda
