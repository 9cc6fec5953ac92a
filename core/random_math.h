#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include <trinix/core/generator.h>
#include <trinix/core/philox.h>

/// @file
/// From random bits to random numbers, with the same result to the last bit on every device.
///
/// Library functions such as log and cos differ between devices, and a compiler may contract a * b + c into one
/// rounding or not. So the functions here are polynomials whose every multiply-add is an explicit fma; no product feeds
/// a plain addition, which leaves nothing to contract. They are free of branches, so loops over them vectorise.

namespace trinix {

namespace detail {

TRINIX_HOST_DEVICE inline float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

TRINIX_HOST_DEVICE inline float correctly_rounded_sqrt(float x) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(x);
#else
  return std::sqrt(x);
#endif
}

TRINIX_HOST_DEVICE inline std::int32_t bits_of(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_int(x);
#else
  return std::bit_cast<std::int32_t>(x);
#endif
}

TRINIX_HOST_DEVICE inline float float_of(std::int32_t bits) {
#if defined(__CUDA_ARCH__)
  return __int_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

/// Natural logarithm of a positive normal number, error below 1e-7 relative. x = 2^e m with m in [sqrt(1/2), sqrt(2));
/// log m = f + f^2 P(f), f = m - 1, P minimax of degree 7.
TRINIX_HOST_DEVICE inline float log_positive(float x) {
  constexpr std::int32_t kSqrtHalf = 0x3f3504f3;
  const std::int32_t ix = bits_of(x) - kSqrtHalf;
  const std::int32_t e = ix >> 23;
  const float f = float_of((ix & 0x007fffff) + kSqrtHalf) - 1.0F;
  float p = 0x1.65c766p-4F;
  p = fused(p, f, -0x1.250494p-3F);
  p = fused(p, f, 0x1.318524p-3F);
  p = fused(p, f, -0x1.535d32p-3F);
  p = fused(p, f, 0x1.98d2c0p-3F);
  p = fused(p, f, -0x1.00049ap-2F);
  p = fused(p, f, 0x1.5556f4p-2F);
  p = fused(p, f, -0x1.fffffap-2F);
  const float log_m = fused(f * f, p, f);
  return fused(static_cast<float>(e), 0x1.62e430p-1F, log_m);
}

}  // namespace detail

/// Sine and cosine of an angle.
struct SinCos {
  float sin;
  float cos;
};

/// Sine and cosine of bits / 2^32 of a full turn. The quadrant is taken from the integer, so the reduction is exact;
/// minimax polynomials cover the remaining eighth of a turn to either side. Error below 1e-7.
TRINIX_HOST_DEVICE inline SinCos sincos_of_turn(std::uint32_t bits) {
  using detail::fused;
  const std::uint32_t quadrant = (bits + 0x20000000U) >> 30;
  const auto rest = static_cast<std::int32_t>(bits - (quadrant << 30));
  const float a = static_cast<float>(rest) * 0x1.921fb6p-30F;  // 2 pi / 2^32
  const float s = a * a;
  float p = -0x1.994eb4p-13F;
  p = fused(p, s, 0x1.110760p-7F);
  p = fused(p, s, -0x1.555546p-3F);
  const float sin = fused(a * s, p, a);
  float q = 0x1.9a025ap-16F;
  q = fused(q, s, -0x1.6c0c8cp-10F);
  q = fused(q, s, 0x1.55554ap-5F);
  const float cos = fused(s * s, q, fused(s, -0.5F, 1.0F));
  const bool odd = (quadrant & 1U) != 0;
  const float magnitude_sin = odd ? cos : sin;
  const float magnitude_cos = odd ? sin : cos;
  const bool sin_negative = (quadrant & 2U) != 0;
  const bool cos_negative = ((quadrant + 1U) & 2U) != 0;
  return {sin_negative ? -magnitude_sin : magnitude_sin, cos_negative ? -magnitude_cos : magnitude_cos};
}

/// Two independent normal values with mean 0 and variance 1.
struct NormalPair {
  float first;
  float second;
};

/// Box and Muller, "A note on the generation of random normal deviates" (1958). The radius comes from 32 bits, so the
/// largest value is sqrt(2 * 33 * ln 2) = 6.76.
TRINIX_HOST_DEVICE inline NormalPair normal_from_bits(std::uint32_t radius_bits, std::uint32_t angle_bits) {
  // In (0, 1]: half a step above the lattice, so that the logarithm of 0 is never taken.
  const float u = detail::fused(static_cast<float>(radius_bits), 0x1p-32F, 0x1p-33F);
  const float radius = detail::correctly_rounded_sqrt(-2.0F * detail::log_positive(u));
  const SinCos angle = sincos_of_turn(angle_bits);
  return {radius * angle.cos, radius * angle.sin};
}

/// shift + factor x with one rounding: places a drawn value in its range.
TRINIX_HOST_DEVICE inline float scale_and_shift(float x, float factor, float shift) {
  return detail::fused(x, factor, shift);
}
TRINIX_HOST_DEVICE inline double scale_and_shift(double x, double factor, double shift) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(x, factor, shift);
#else
  return std::fma(x, factor, shift);
#endif
}

/// Uniform in [0, 1) with `kBits` bits: as many as the storage type's significand holds, so that none rounds up to 1.
template <int kBits>
TRINIX_HOST_DEVICE inline float uniform_with_bits(std::uint32_t bits) {
  constexpr float kStep = 1.0F / static_cast<float>(1U << kBits);
  return static_cast<float>(bits >> (32 - kBits)) * kStep;
}

/// An integer in [0, range), range > 0: the high half of bits * range. The bias is below range / 2^64 (Lemire, "Fast
/// random integer generation in an interval", 2019, without the rejection).
TRINIX_HOST_DEVICE inline std::uint64_t integer_from_bits(std::uint64_t bits, std::uint64_t range) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(bits, range);
#else
  const std::uint64_t b0 = bits & 0xffffffffU, b1 = bits >> 32;
  const std::uint64_t r0 = range & 0xffffffffU, r1 = range >> 32;
  const std::uint64_t low = b0 * r0;
  const std::uint64_t middle = b1 * r0 + (low >> 32);
  const std::uint64_t other = b0 * r1 + (middle & 0xffffffffU);
  return b1 * r1 + (middle >> 32) + (other >> 32);
#endif
}

/// Four 64-bit words for elements 4 * block .. 4 * block + 3: two Philox blocks, of which the one with 1 in the upper
/// half of the counter gives the upper halves.
struct RandomWords {
  std::uint64_t x[4];
};

TRINIX_HOST_DEVICE inline RandomWords random_words64(const RandomState& state, std::uint64_t block) {
  const PhiloxBlock low = philox(state.seed, state.offset + block, 0);
  const PhiloxBlock high = philox(state.seed, state.offset + block, 1);
  RandomWords words{};
  for (int lane = 0; lane < 4; ++lane) words.x[lane] = std::uint64_t{high.x[lane]} << 32 | low.x[lane];
  return words;
}

}  // namespace trinix
