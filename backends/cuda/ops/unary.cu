// Unary. The floating-point types are compiled in backends/cuda/unary/; here are the others and the choice among all.
#include <trinix/backends/cuda/unary/unary.cuh>
#include <trinix/backends/dispatch.h>

namespace trinix::cuda {

namespace {

struct Not {
  __device__ bool operator()(bool x) const { return !x; }
};

void unary_forward(const Unary::Forward& args, const Stream& stream) {
  if (args.fn == UnaryFn::logical_not) return map<bool, bool>("unary", stream, Not(), {&args.y, &args.x});
  dispatch_arithmetic(args.x.dtype, "unary", [&]<class T>() { unary_values<T>(args, stream); });
}

void unary_backward(const Unary::Backward& args, const Stream& stream) {
  dispatch_floating(args.dy.dtype, "unary", [&]<class T>() { unary_gradients<T>(args, stream); });
}

}  // namespace

void register_unary() {
  register_kernel<Unary>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, unary_forward, unary_backward});
}

}  // namespace trinix::cuda
