#include <trinix/backends/cpu/layer_norm_rows.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/layer_norm.h>

namespace trinix::cpu {

namespace {

void layer_norm_forward(const LayerNorm::Forward& args, const Stream&) {
  dispatch_floating(args.x.dtype, "layer_norm", [&]<class T>() {
    using C = compute_t<T>;
    const LayerNormForward<T> p{.x = args.x.as<T>(),
                                .branch = nullptr,
                                .weight = optional_data<T>(args.weight),
                                .bias = optional_data<T>(args.bias),
                                .sum = nullptr,
                                .y = args.y.as<T>(),
                                .mean = args.mean.as<C>(),
                                .rstd = args.rstd.as<C>(),
                                .eps = static_cast<C>(args.eps)};
    layer_norm_rows(p, args.x.size(0), args.x.size(1));
  });
}

void layer_norm_backward(const LayerNorm::Backward& args, const Stream&) {
  dispatch_floating(args.x.dtype, "layer_norm", [&]<class T>() {
    using C = compute_t<T>;
    const LayerNormBackward<T> p{.x = args.x.as<T>(),
                                 .weight = optional_data<T>(args.weight),
                                 .mean = args.mean.as<C>(),
                                 .rstd = args.rstd.as<C>(),
                                 .dy = args.dy.as<T>(),
                                 .dsum = nullptr,
                                 .dx = optional_data<T>(args.dx),
                                 .dweight = optional_data<T>(args.dweight),
                                 .dbias = optional_data<T>(args.dbias),
                                 .accumulate_dweight = args.accumulate_dweight,
                                 .accumulate_dbias = args.accumulate_dbias};
    layer_norm_backward_rows(p, args.x.size(0), args.x.size(1));
  });
}

}  // namespace

void register_layer_norm() {
  register_kernel<LayerNorm>(
      {"cpu", Kernel::fused, DeviceType::cpu, 10, nullptr, layer_norm_forward, layer_norm_backward});
}

}  // namespace trinix::cpu
