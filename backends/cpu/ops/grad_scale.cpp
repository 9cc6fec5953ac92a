#include <trinix/core/ops/grad_scale.h>

namespace trinix::cpu {

namespace {

void grad_scale_forward(const GradScale::Forward& args, const Stream&) {
  update_grad_scale(*args.norm.as<double>(), args.scale.as<float>(), args.counts.as<std::int64_t>(), args.rule);
}

}  // namespace

void register_grad_scale() {
  register_kernel<GradScale>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, grad_scale_forward, nullptr});
}

}  // namespace trinix::cpu
