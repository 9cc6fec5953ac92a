#pragma once

#include <cmath>
#include <cuda_runtime.h>

/// @file
/// The mathematics of unary_functions.h on the card: CUDA's accurate functions, at most 2 ulp in f32 (CUDA C++
/// Programming Guide, mathematical functions), and 4 for pow and tan.

namespace trinix::cuda {

struct DeviceMath {
  template <class C>
  __host__ __device__ static C exp(C x) {
    return ::exp(x);
  }
  template <class C>
  __host__ __device__ static C expm1(C x) {
    return ::expm1(x);
  }
  template <class C>
  __host__ __device__ static C log(C x) {
    return ::log(x);
  }
  template <class C>
  __host__ __device__ static C log1p(C x) {
    return ::log1p(x);
  }
  template <class C>
  __host__ __device__ static C log2(C x) {
    return ::log2(x);
  }
  template <class C>
  __host__ __device__ static C sin(C x) {
    return ::sin(x);
  }
  template <class C>
  __host__ __device__ static C cos(C x) {
    return ::cos(x);
  }
  template <class C>
  __host__ __device__ static C tan(C x) {
    return ::tan(x);
  }
  template <class C>
  __host__ __device__ static C tanh(C x) {
    return ::tanh(x);
  }
  /// Without overflow on either side.
  template <class C>
  __host__ __device__ static C sigmoid(C x) {
    const C e = ::exp(-::fabs(x));
    return (x < C(0) ? e : C(1)) / (C(1) + e);
  }
  template <class C>
  __host__ __device__ static C erf(C x) {
    return ::erf(x);
  }
  template <class C>
  __host__ __device__ static C normal_cdf(C x) {
    return C(0.5) * (C(1) + ::erf(x * C(0.70710678118654752440)));
  }
  template <class C>
  __host__ __device__ static C sqrt(C x) {
    return ::sqrt(x);
  }
  template <class C>
  __host__ __device__ static C fabs(C x) {
    return ::fabs(x);
  }
  template <class C>
  __host__ __device__ static C floor(C x) {
    return ::floor(x);
  }
  template <class C>
  __host__ __device__ static C ceil(C x) {
    return ::ceil(x);
  }
  template <class C>
  __host__ __device__ static C nearbyint(C x) {
    return ::nearbyint(x);
  }
  template <class C>
  __host__ __device__ static C trunc(C x) {
    return ::trunc(x);
  }
  template <class C>
  __host__ __device__ static C divide(C x, C y) {
    return x / y;
  }
  template <class C>
  __host__ __device__ static C pow(C x, C y) {
    return ::pow(x, y);
  }
};

/// For results that are rounded to 16 bits: the hardware's own exponential and quotient, whose relative error stays
/// below 1e-5 and thus far below the rounding. The accurate ones would keep these functions from the memory's speed.
struct NarrowMath : DeviceMath {
  __host__ __device__ static float exp(float x) {
#if defined(__CUDA_ARCH__)
    return __expf(x);
#else
    return ::exp(x);
#endif
  }
  __host__ __device__ static float divide(float x, float y) {
#if defined(__CUDA_ARCH__)
    return __fdividef(x, y);
#else
    return x / y;
#endif
  }
  __host__ __device__ static float sigmoid(float x) { return divide(1.0F, 1.0F + exp(-x)); }
  /// 2^(a polynomial in |x|) on the left side. Error below 1e-6, and below 2e-4 of the value; 0 below -6, where it is
  /// 1e-9. Coefficients fitted by Lawson's algorithm to the logarithm, with these errors as the weights.
  __host__ __device__ static float normal_cdf(float x) {
    const float a = ::fabsf(x);
    float q = 2.898988984e-5F;
    q = q * a - 0.0007122182654F;
    q = q * a + 0.007822158401F;
    q = q * a - 0.05292695954F;
    q = q * a - 0.4591576238F;
    q = q * a - 1.151085889F;
    q = q * a - 1.000001667F;
    const float left = a > 6.0F ? 0.0F : power_of_two(q);
    return x > 0.0F ? 1.0F - left : left;
  }

 private:
  __host__ __device__ static float power_of_two(float x) {
#if defined(__CUDA_ARCH__)
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return ::exp2f(x);
#endif
  }
};

}  // namespace trinix::cuda
