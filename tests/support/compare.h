#pragma once

#include <cmath>

#include <trinix/trinix.h>

/// @file
/// How large a tensor is, and how far from another, as one number on the host.

namespace trinix::testing {

[[nodiscard]] inline double largest(const Tensor& x) {
  return max(abs(x.detach().to(Device::cpu()).to(DType::f64))).item<double>();
}

[[nodiscard]] inline double largest_difference(const Tensor& a, const Tensor& b) {
  return largest(a.detach().to(Device::cpu()).to(DType::f64) - b.detach().to(Device::cpu()).to(DType::f64));
}

/// The standard deviation of all elements.
[[nodiscard]] inline double deviation(const Tensor& x) {
  return std::sqrt(var(x.detach().to(Device::cpu())).to(DType::f64).item<double>());
}

}  // namespace trinix::testing
