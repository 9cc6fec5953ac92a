#include <trinix/backends/cuda/launch.cuh>
#include <trinix/core/ops/grad_scale.h>

namespace trinix::cuda {

namespace {

__global__ void grad_scale_kernel(const double* norm, float* scale, std::int64_t* counts, GradScaleRule rule) {
  update_grad_scale(*norm, scale, counts, rule);
}

void grad_scale_forward(const GradScale::Forward& args, const Stream& stream) {
  launch("grad_scale", grad_scale_kernel, {.grid = dim3(1), .block = dim3(1)}, stream, args.norm.as<double>(),
         args.scale.as<float>(), args.counts.as<std::int64_t>(), args.rule);
}

}  // namespace

void register_grad_scale() {
  register_kernel<GradScale>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, grad_scale_forward, nullptr});
}

}  // namespace trinix::cuda
