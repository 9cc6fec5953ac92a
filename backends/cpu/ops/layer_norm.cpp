#include <trinix/backends/cpu/norm.h>
#include <trinix/core/ops/layer_norm.h>

namespace trinix::cpu {

void register_layer_norm() {
  constexpr auto kForward = norm_forward<NormKind::layer>;
  constexpr auto kBackward = norm_backward<NormKind::layer>;
  register_kernel<LayerNorm>({"cpu", Kernel::fused, DeviceType::cpu, 10, nullptr, kForward, kBackward});
  register_kernel<AddLayerNorm>({"cpu", Kernel::fused, DeviceType::cpu, 10, nullptr, kForward, kBackward});
}

}  // namespace trinix::cpu
