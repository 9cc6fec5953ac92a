#pragma once

#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Short ways to write small tensors and read them.

namespace trinix::testing {

/// An f32 leaf that collects a gradient.
inline Tensor leaf(const std::vector<float>& values) {
  return from_vector(values, TensorOptions{.requires_grad = true});
}
inline Tensor leaf(const std::vector<float>& values, const Shape& shape) {
  return from_vector(values, shape, {.requires_grad = true});
}
inline Tensor constant(const std::vector<float>& values) { return from_vector(values); }
/// An f32 tensor without dims.
inline Tensor number(float value) { return full({}, value); }

using Floats = std::vector<float>;
inline Floats floats(const Tensor& t) { return t.to_vector<float>(); }
inline Floats grad_of(const Tensor& t) { return t.grad().defined() ? floats(t.grad()) : Floats{}; }

}  // namespace trinix::testing
