#pragma once

#include <trinix/core/tensor.h>

/// @file
/// What the functions of autograd/ops share in preparing their arguments.

namespace trinix {

/// Two operands converted to one dtype, and the shape that they broadcast to. Both keep their own shape.
struct Operands {
  Tensor a;
  Tensor b;
  Shape shape;
};

/// @throws ShapeError, DeviceError naming `op`.
[[nodiscard]] Operands match(const char* op, const Tensor& a, const Tensor& b);
/// The same, with integers and booleans converted to f32.
[[nodiscard]] Operands match_floating(const char* op, const Tensor& a, const Tensor& b);

/// The tensor's view with strides 0 along broadcast dims.
[[nodiscard]] View broadcast_view(const Tensor& t, const Shape& shape);

/// @throws DeviceError unless both are on one device.
void check_same_device(const char* op, const Tensor& a, const Tensor& b);
/// @throws DtypeError unless the tensor is floating point.
void check_floating(const char* op, const Tensor& t);

}  // namespace trinix
