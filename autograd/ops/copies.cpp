// Tensor's methods that copy: to row-major order, to another dtype, to another device, over an existing tensor.
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/record.h>
#include <trinix/core/backend.h>
#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/copy.h>

namespace trinix {

using detail::fail;

namespace {

Tensor converted_copy(const Tensor& x, DType dtype) {
  const Tensor y = empty(x.shape(), {dtype, x.device()});
  if (y.numel() > 0) run<Copy>({.from = x.raw(), .to = y.raw()}, y.device());
  return y;
}

Tensor moved_copy(const Tensor& x, Device device) {
  const Tensor dense = x.is_contiguous() ? x : converted_copy(x, x.dtype());
  const Tensor y = empty(x.shape(), {x.dtype(), device});
  // The device that is not the host knows how to copy to and from it.
  const Device driver = device.is_cpu() ? x.device() : device;
  if (x.device().is_cpu() || device.is_cpu()) refuse_in_capture("to", driver);
  Backend& backend = backend_of(driver);
  const std::size_t bytes = static_cast<std::size_t>(y.numel()) * size_of(y.dtype());
  backend.copy(y.raw_data(), device, dense.raw_data(), x.device(), bytes, stream_of(driver));
  if (device.is_cpu()) backend.synchronize(driver.index);
  return y;
}

}  // namespace

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }

Tensor Tensor::clone() const {
  return record("clone", converted_copy(*this, dtype()), {*this}, {},
                [](BackwardContext& ctx) { ctx.give(0, ctx.grad()); });
}

Tensor Tensor::to(DType wanted) const {
  if (wanted == dtype()) return *this;
  const Tensor y = converted_copy(*this, wanted);
  if (!is_floating(wanted)) return y;  // rounding to an integer has no useful gradient: the result is a constant
  return record("to", y, {*this}, {}, [from = dtype()](BackwardContext& ctx) { ctx.give(0, ctx.grad().to(from)); });
}

Tensor Tensor::to(Device wanted) const {
  if (wanted == device()) return *this;
  return record("to", moved_copy(*this, wanted), {*this}, {},
                [from = device()](BackwardContext& ctx) { ctx.give(0, ctx.grad().to(from)); });
}

const Tensor& Tensor::copy_(const Tensor& source) const {
  if (broadcast_shapes("copy_", shape(), source.shape()) != shape()) {
    fail<ShapeError>("copy_", "a source of shape {} does not broadcast to the target's shape {}", source.shape(),
                     shape());
  }
  Tensor here = source.to(device());
  // Another look at the same memory: elements would be overwritten before they are read.
  if (here.storage() == storage() && !(here.offset() == offset() && here.strides() == strides())) here = here.clone();
  record_in_place(
      "copy_", *this, {here}, {},
      [&] {
        if (numel() > 0) run<Copy>({.from = broadcast_view(here, shape()), .to = raw()}, device());
      },
      [shape = here.shape(), dtype = here.dtype()](BackwardContext& ctx) {
        ctx.give(0, sum_to(ctx.grad(), shape).to(dtype));
      });
  return *this;
}

}  // namespace trinix
