#include <trinix/backends/cuda/norm/norm.h>
#include <trinix/core/ops/rms_norm.h>

namespace trinix::cuda {

void register_rms_norm() {
  constexpr auto kForward = norm_forward_of<NormKind::rms>;
  constexpr auto kBackward = norm_backward_of<NormKind::rms>;
  register_kernel<RmsNorm>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, kForward, kBackward});
  register_kernel<AddRmsNorm>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, kForward, kBackward});
  register_kernel<RmsNormActivation>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr,
                                      norm_forward_of<NormKind::rms_activation>,
                                      norm_backward_of<NormKind::rms_activation>});
}

}  // namespace trinix::cuda
