#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/fill.h>

namespace trinix::cuda {

namespace {

template <class C>
struct Constant {
  C value;
  __device__ C operator()() const { return value; }
};

void fill_forward(const Fill::Forward& args, const Stream& stream) {
  dispatch_all(args.out.dtype, "fill", [&]<class T>() {
    using C = compute_t<T>;
    map<T>("fill", stream, Constant<C>{args.value.to<C>()}, {&args.out});
  });
}

template <class T>
__global__ void range_kernel(T* out, std::int64_t n, std::int64_t stride, bool exact, std::int64_t start_int,
                             std::int64_t step_int, double start, double step) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  // The product is rounded before the sum, as on the CPU: both devices give the same values.
  out[i * stride] = exact ? narrow_to<T>(start_int + i * step_int)
                          : narrow_to<T>(__dadd_rn(start, __dmul_rn(static_cast<double>(i), step)));
}

void range_forward(const Range::Forward& args, const Stream& stream) {
  const std::int64_t n = args.out.size(0);
  const bool exact = args.start.kind() == DType::i64 && args.step.kind() == DType::i64;
  dispatch_all(args.out.dtype, "range", [&]<class T>() {
    launch("range", range_kernel<T>, {.grid = dim3(static_cast<unsigned>(ceil_div(n, 256))), .block = dim3(256)},
           stream, args.out.as<T>(), n, args.out.stride(0), exact, exact ? args.start.to_int() : 0,
           exact ? args.step.to_int() : 0, args.start.to_double(), args.step.to_double());
  });
}

}  // namespace

void register_fill() {
  register_kernel<Fill>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, fill_forward, nullptr});
  register_kernel<Range>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, range_forward, nullptr});
}

}  // namespace trinix::cuda
