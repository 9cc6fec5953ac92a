#pragma once

#include <cmath>

#include <trinix/backends/cpu/vector_math.h>

/// @file
/// The mathematics of unary_functions.h on the CPU.

namespace trinix::cpu {

/// What the compiler vectorises where it can, and the standard library where it cannot.
struct VectorMath {
  template <class C>
  static C exp(C x) {
    return vm::exp(x);
  }
  template <class C>
  static C expm1(C x) {
    return vm::expm1(x);
  }
  template <class C>
  static C log(C x) {
    return vm::log(x);
  }
  template <class C>
  static C log1p(C x) {
    return vm::log1p(x);
  }
  template <class C>
  static C log2(C x) {
    return vm::log2(x);
  }
  template <class C>
  static C sin(C x) {
    return vm::sin(x);
  }
  template <class C>
  static C cos(C x) {
    return vm::cos(x);
  }
  template <class C>
  static C tanh(C x) {
    return vm::tanh(x);
  }
  template <class C>
  static C sigmoid(C x) {
    return vm::sigmoid(x);
  }
  template <class C>
  static C erf(C x) {
    return vm::erf(x);
  }
  template <class C>
  static C normal_cdf(C x) {
    return vm::normal_cdf(x);
  }
  template <class C>
  static C sqrt(C x) {
    return std::sqrt(x);
  }
  template <class C>
  static C tan(C x) {
    return std::tan(x);
  }
  template <class C>
  static C fabs(C x) {
    return std::fabs(x);
  }
  template <class C>
  static C floor(C x) {
    return std::floor(x);
  }
  template <class C>
  static C ceil(C x) {
    return std::ceil(x);
  }
  template <class C>
  static C nearbyint(C x) {
    return std::nearbyint(x);
  }
  template <class C>
  static C trunc(C x) {
    return std::trunc(x);
  }
  template <class C>
  static C divide(C x, C y) {
    return x / y;
  }
  template <class C>
  static C pow(C x, C y) {
    return std::pow(x, y);
  }
};

}  // namespace trinix::cpu
