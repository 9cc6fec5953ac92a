#include <algorithm>

#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/triangle.h>

namespace trinix::cpu {

namespace {

/// The two views with their dims unmerged: a row must know its place in its matrix.
Walk<2> rows_of(const View& y, const View& x) {
  Walk<2> w;
  w.rank = y.rank();
  for (int d = 0; d < y.rank(); ++d) {
    const auto i = static_cast<std::size_t>(d);
    w.shape[i] = y.shape[d];
    w.strides[0][i] = y.strides[d];
    w.strides[1][i] = x.strides[d];
  }
  return w;
}

void triangle_forward(const Triangle::Forward& args, const Stream&) {
  const Walk<2> w = rows_of(args.y, args.x);
  const std::int64_t height = args.y.size(-2);
  const std::int64_t columns = w.inner();
  if (args.y.numel() == 0) return;
  const std::int64_t sy = w.inner_stride(0), sx = w.inner_stride(1);
  // Beyond these every element is on one side; the limits keep i + diagonal from overflowing.
  const std::int64_t diagonal = std::clamp(args.diagonal, -height, columns);
  dispatch_by_size(args.y.dtype, [&]<class T>() {
    parallel_for(w.rows(), std::max<std::int64_t>(kGrain / columns, 1), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const auto offsets = row_offsets(w, r);
        T* y = args.y.as<T>() + offsets[0];
        const T* x = args.x.as<T>() + offsets[1];
        // The first column above the diagonal, or on it for the upper triangle.
        const std::int64_t i = r % height;
        const std::int64_t border = std::clamp<std::int64_t>(i + diagonal + (args.upper ? 0 : 1), 0, columns);
        const std::int64_t kept_from = args.upper ? border : 0;
        const std::int64_t kept_to = args.upper ? columns : border;
        for (std::int64_t j = 0; j < kept_from; ++j) y[j * sy] = T(0);
        for (std::int64_t j = kept_from; j < kept_to; ++j) y[j * sy] = x[j * sx];
        for (std::int64_t j = kept_to; j < columns; ++j) y[j * sy] = T(0);
      }
    });
  });
}

}  // namespace

void register_triangle() {
  register_kernel<Triangle>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, triangle_forward, nullptr});
}

}  // namespace trinix::cpu
