#include <algorithm>
#include <utility>

#include <trinix/backends/cpu/gemm/address.h>
#include <trinix/backends/cpu/gemm/gemm.h>
#include <trinix/backends/cpu/parallel.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/newton_schulz.h>

namespace trinix::cpu {

namespace {

using internal::advance;

/// A batch of equal matrices, element (r, c) of matrix b at b * stride + r * row + c * col.
struct Batch {
  void* data;
  DType dtype;
  std::int64_t row, col, stride;

  [[nodiscard]] Batch transposed() const { return {data, dtype, col, row, stride}; }
  [[nodiscard]] Batch from(std::int64_t r, std::int64_t c) const {
    return {advance(data, r * row + c * col, dtype), dtype, row, col, stride};
  }
  [[nodiscard]] GemmMatrix matrix() const { return {data, dtype, row, col}; }
  [[nodiscard]] GemmResult result() const { return {data, dtype, row, col}; }
};

struct Sizes {
  std::int64_t count;  // matrices
  std::int64_t m;      // min(rows, cols)
  std::int64_t n;      // max(rows, cols)
};

/// to = scale from, elementwise.
void scaled_copy(const Batch& from, const Batch& to, std::int64_t count, double scale) {
  dispatch_floating(from.dtype, "newton_schulz", [&]<class T>() {
    using C = compute_t<T>;
    const T* __restrict in = static_cast<const T*>(from.data);
    T* __restrict out = static_cast<T*>(to.data);
    const C factor = static_cast<C>(scale);
    parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) out[i] = T(static_cast<C>(in[i]) * factor);
    });
  });
}

/// Copies what lies above the diagonal to below it, square by square, so that both stay in the cache.
void mirror(const Batch& s, const Sizes& sizes) {
  constexpr std::int64_t kSquare = 32;
  const std::int64_t squares = (sizes.m + kSquare - 1) / kSquare;
  dispatch_by_size(s.dtype, [&]<class T>() {
    parallel_for(sizes.count * squares, std::max<std::int64_t>(kGrain / (kSquare * sizes.m), 1),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     T* const matrix = static_cast<T*>(s.data) + i / squares * s.stride;
                     const std::int64_t first = i % squares * kSquare;
                     const std::int64_t last = std::min(first + kSquare, sizes.m);
                     for (std::int64_t from = 0; from < last; from += kSquare) {
                       for (std::int64_t r = first; r < last; ++r) {
                         const std::int64_t to = std::min(from + kSquare, r);
                         for (std::int64_t c = from; c < to; ++c) matrix[r * s.row + c] = matrix[c * s.row + r];
                       }
                     }
                   }
                 });
  });
}

/// out = alpha a b (+ out): a product known to be symmetric, of which the part on and above the diagonal is computed,
/// in strips of rows, and mirrored.
void symmetric_product(const Batch& a, const Batch& b, std::int64_t k, const Batch& out, const Sizes& sizes,
                       double alpha, bool accumulate) {
  constexpr std::int64_t kStrips = 4;  // 10 of 16 blocks
  constexpr std::int64_t kShortest = 64;
  const std::int64_t strip = std::max((sizes.m + kStrips - 1) / kStrips, kShortest);
  for (std::int64_t first = 0; first < sizes.m; first += strip) {
    const GemmArgs args{.m = std::min(strip, sizes.m - first),
                        .n = sizes.m - first,
                        .k = k,
                        .a = a.from(first, 0).matrix(),
                        .b = b.from(0, first).matrix(),
                        .c = out.from(first, first).result(),
                        .alpha = alpha,
                        .accumulate = accumulate};
    gemm_batched(args, sizes.count, {a.stride, b.stride, out.stride});
  }
  mirror(out, sizes);
}

const char* why_not(const NewtonSchulz::Forward& args, bool) {
  return size_of(args.x.dtype) >= 4 ? nullptr : "takes f32 and f64 only, because B would be rounded twice";
}

void newton_schulz_forward(const NewtonSchulz::Forward& args, const Stream&) {
  const std::int64_t rows = args.x.size(1);
  const std::int64_t cols = args.x.size(2);
  const bool wide = rows <= cols;
  const Sizes sizes{args.x.size(0), std::min(rows, cols), std::max(rows, cols)};
  const std::int64_t elements = sizes.count * sizes.m * sizes.n;
  const std::int64_t square = sizes.m * sizes.m;
  const DType dtype = args.x.dtype;
  if (elements == 0) return;
  Batch x{args.x.data, dtype, cols, 1, rows * cols};
  Batch next{args.out.data, dtype, cols, 1, rows * cols};
  const Batch a{args.work.data, dtype, sizes.m, 1, square};
  const Batch b{advance(args.work.data, sizes.count * square, dtype), dtype, sizes.m, 1, square};
  for (const QuinticStep& step : args.steps) {
    const Batch wide_x = wide ? x : x.transposed();
    symmetric_product(wide_x, wide_x.transposed(), sizes.n, a, sizes, 1, false);
    scaled_copy(a, b, sizes.count * square, step.b);
    symmetric_product(a, a, sizes.m, b, sizes, step.c, true);
    scaled_copy(x, next, elements, step.a);
    const GemmArgs product{.m = rows,
                           .n = cols,
                           .k = sizes.m,
                           .a = (wide ? b : x).matrix(),
                           .b = (wide ? x : b).matrix(),
                           .c = next.result(),
                           .accumulate = true};
    gemm_batched(product, sizes.count, {(wide ? b : x).stride, (wide ? x : b).stride, next.stride});
    std::swap(x, next);
  }
  if (x.data != args.out.data) scaled_copy(x, next, elements, 1);
}

}  // namespace

void register_newton_schulz() {
  register_kernel<NewtonSchulz>({"cpu", Kernel::fused, DeviceType::cpu, 0, why_not, newton_schulz_forward, nullptr});
}

}  // namespace trinix::cpu
