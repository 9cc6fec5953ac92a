#include <trinix/backends/cuda/norm/norm.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/fill.h>

namespace trinix::cuda {

void norm_forward(NormKind kind, const NormForward& args, const Stream& stream) {
  if (args.x.numel() == 0) return;
  dispatch_floating(args.x.dtype, "norm", [&]<class T>() { norm_forward_as<T>(kind, args, stream); });
}

void norm_backward(NormKind kind, const NormBackward& args, const Stream& stream) {
  if (args.s.numel() == 0) {  // sums over no rows
    const auto clear = [&](const View& gradient, bool accumulate) {
      if (gradient.defined && !accumulate) trinix::run<Fill>({.out = gradient, .value = 0}, stream.device);
    };
    clear(args.dweight, args.accumulate_dweight);
    clear(args.dbias, args.accumulate_dbias);
    return;
  }
  dispatch_floating(args.s.dtype, "norm", [&]<class T>() { norm_backward_as<T>(kind, args, stream); });
}

}  // namespace trinix::cuda
