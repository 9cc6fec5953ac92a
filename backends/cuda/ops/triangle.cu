#include <algorithm>

#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/triangle.h>

namespace trinix::cuda {

namespace {

/// Rows of all matrices, counted through the batch; columns go over the threads in x, in vectors.
struct TriangleGeometry {
  DeviceWalk<2> rows;  ///< view 0: y, view 1: x
  Divider height;
  std::int64_t row_count;
  std::int64_t columns;
  std::int64_t column_blocks;
  std::int64_t y_step;  ///< from column to column
  std::int64_t x_step;
  std::int64_t diagonal;
  bool upper;
};

/// Vectors wholly beyond the diagonal are not read. Floor: half a read and one write for a square.
template <int kVector, class T>
__global__ void __launch_bounds__(kMapThreads) triangle_kernel(TriangleGeometry g, const T* x, T* y) {
  const std::int64_t row_block = blockIdx.x / g.column_blocks;
  const std::int64_t row = row_block * blockDim.y + threadIdx.y;
  const std::int64_t column = ((blockIdx.x % g.column_blocks) * blockDim.x + threadIdx.x) * kVector;
  if (row >= g.row_count || column >= g.columns) return;
  const auto r = static_cast<std::uint32_t>(row);
  const std::int64_t i = r - g.height.quotient(r) * g.height.divisor;
  std::int64_t at[2];
  g.rows.offsets(row, at);
  const std::int64_t border = i + g.diagonal;  // the column on the diagonal
  const bool any = g.upper ? column + kVector > border : column <= border;
  Vector<T, kVector> v{};
  if (any) {
    v = load_vector<kVector>(x + at[1] + column * g.x_step);
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      if (g.upper ? column + k < border : column + k > border) v.at[k] = T(0);
    }
  }
  store_vector(y + at[0] + column * g.y_step, v);
}

template <int kVector, class T>
void run(const TriangleGeometry& geometry, const View& x, const View& y, const Stream& stream) {
  TriangleGeometry g = geometry;
  const std::int64_t vectors = g.columns / kVector;
  unsigned across = 1;
  while (across < kMapThreads && across < vectors) across *= 2;
  const dim3 block(across, kMapThreads / across);
  g.column_blocks = ceil_div(vectors, across);
  const std::int64_t blocks = g.column_blocks * ceil_div(g.row_count, block.y);
  if (blocks > INT32_MAX || g.row_count > UINT32_MAX) {
    trinix::detail::fail<ShapeError>("triangle", "shape {} is more than a CUDA kernel here can index; take a part",
                                     y.shape);
  }
  launch("triangle", triangle_kernel<kVector, T>, {.grid = dim3(static_cast<unsigned>(blocks)), .block = block}, stream,
         g, x.as<T>(), y.as<T>());
}

void triangle_forward(const Triangle::Forward& args, const Stream& stream) {
  if (args.y.numel() == 0) return;
  const int last = args.y.rank() - 1;
  View rows_y = args.y, rows_x = args.x;
  rows_y.shape[last] = rows_x.shape[last] = 1;
  const auto w = make_walk<2>({&rows_y, &rows_x});
  const std::int64_t height = args.y.size(-2), columns = args.y.size(-1);
  if (height > UINT32_MAX) {
    trinix::detail::fail<ShapeError>("triangle", "shape {} is more than a CUDA kernel here can index; take a part",
                                     args.y.shape);
  }
  TriangleGeometry g;
  g.rows = internal::to_device(w, 1);
  g.height = Divider(static_cast<std::uint32_t>(height));
  g.row_count = rows_y.numel();
  g.columns = columns;
  g.y_step = args.y.stride(-1);
  g.x_step = args.x.stride(-1);
  // Beyond these every element is on one side; the limits keep i + diagonal from overflowing.
  g.diagonal = std::clamp(args.diagonal, -height, columns);
  g.upper = args.upper;
  dispatch_by_size(args.y.dtype, [&]<class T>() {
    constexpr int kWide = kPerAccess<T>;
    bool wide = columns % kWide == 0 && g.y_step == 1 && g.x_step == 1;
    for (const View* v : {&args.y, &args.x}) {
      wide = wide && reinterpret_cast<std::uintptr_t>(v->data) % 16 == 0;
      for (int d = 0; d < last; ++d) wide = wide && (v->shape[d] == 1 || v->stride(d) % kWide == 0);
    }
    wide ? run<kWide, T>(g, args.x, args.y, stream) : run<1, T>(g, args.x, args.y, stream);
  });
}

}  // namespace

void register_triangle() {
  register_kernel<Triangle>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, triangle_forward, nullptr});
}

}  // namespace trinix::cuda
