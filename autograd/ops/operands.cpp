#include <trinix/autograd/ops/operands.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

using detail::fail;

void check_same_device(const char* op, const Tensor& a, const Tensor& b) {
  if (a.device() != b.device()) {
    fail<DeviceError>(op, "one tensor is on {}, another on {}; move one with to()", a.device(), b.device());
  }
}

void check_floating(const char* op, const Tensor& t) {
  if (!is_floating(t.dtype())) {
    fail<DtypeError>(op, "takes floating-point tensors, got {} of shape {}; convert it with to()", t.dtype(),
                     t.shape());
  }
}

namespace {
Operands convert(const char* op, const Tensor& a, const Tensor& b, DType dtype) {
  check_same_device(op, a, b);
  return {a.to(dtype), b.to(dtype), broadcast_shapes(op, a.shape(), b.shape())};
}
}  // namespace

Operands match(const char* op, const Tensor& a, const Tensor& b) {
  return convert(op, a, b, promote(a.dtype(), b.dtype()));
}

Operands match_floating(const char* op, const Tensor& a, const Tensor& b) {
  const DType dtype = promote(a.dtype(), b.dtype());
  return convert(op, a, b, is_floating(dtype) ? dtype : DType::f32);
}

View broadcast_view(const Tensor& t, const Shape& shape) {
  View v = t.raw();
  if (v.shape == shape) return v;
  const int extra = shape.size() - v.rank();
  Strides strides = Dims::filled(shape.size(), 0);
  for (int i = 0; i < v.rank(); ++i) strides[i + extra] = v.shape[i] == 1 ? 0 : v.strides[i];
  v.shape = shape;
  v.strides = strides;
  return v;
}

}  // namespace trinix
