#include <trinix/backends/cpu/norm.h>
#include <trinix/core/ops/rms_norm.h>

namespace trinix::cpu {

void register_rms_norm() {
  constexpr auto kForward = norm_forward<NormKind::rms>;
  constexpr auto kBackward = norm_backward<NormKind::rms>;
  register_kernel<RmsNorm>({"cpu", Kernel::fused, DeviceType::cpu, 10, nullptr, kForward, kBackward});
  register_kernel<AddRmsNorm>({"cpu", Kernel::fused, DeviceType::cpu, 10, nullptr, kForward, kBackward});
  register_kernel<RmsNormActivation>({"cpu", Kernel::fused, DeviceType::cpu, 10, nullptr,
                                      norm_forward<NormKind::rms, true>, norm_backward<NormKind::rms, true>});
}

}  // namespace trinix::cpu
