#include <trinix/backends/cuda/norm/norm.h>
#include <trinix/core/ops/layer_norm.h>

namespace trinix::cuda {

void register_layer_norm() {
  constexpr auto kForward = norm_forward_of<NormKind::layer>;
  constexpr auto kBackward = norm_backward_of<NormKind::layer>;
  register_kernel<LayerNorm>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, kForward, kBackward});
  register_kernel<AddLayerNorm>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, kForward, kBackward});
}

}  // namespace trinix::cuda
