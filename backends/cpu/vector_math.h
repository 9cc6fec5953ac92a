#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

/// @file
/// Transcendental functions for loops that vectorise.
///
/// The float versions have no branches, no calls and no tables: selects only, so that a loop over them becomes vector
/// code of any width. Each reduces its argument to a short interval and evaluates a minimax polynomial there (Muller,
/// "Elementary Functions", 3rd ed., chapters 3 and 11; coefficients fitted by Lawson's algorithm to the relative error
/// of the result). Stated errors are the largest seen over all tested floats, in units in the last place, with fused
/// multiply-add. Infinities and NaN give what IEEE 754 demands. The double versions are the standard library's.

namespace trinix::cpu::vm {

namespace internal {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kLog2E = 1.44269504088896341F;
/// ln 2 in two parts; a multiple of the first by any exponent of a float is exact.
inline constexpr float kLn2High = 0.693359375F;
inline constexpr float kLn2Low = -2.12194440e-4F;
/// Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits: cheaper than a conversion, and exact.
inline constexpr float kRoundMagic = 12582912.0F;

inline float bits_to_float(std::int32_t b) { return std::bit_cast<float>(b); }
inline std::int32_t float_to_bits(float x) { return std::bit_cast<std::int32_t>(x); }
/// a - b, wrapping: the bits of a NaN or a negative number may be anything.
inline std::int32_t wrapping_sub(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b));
}

/// 2^n for n in [-126, 127].
inline float power_of_two(std::int32_t n) { return bits_to_float((n + 127) << 23); }

/// x = n ln 2 + r with |r| <= ln 2 / 2.
struct ExpArgument {
  float r;
  std::int32_t n;
};
inline ExpArgument reduce_exp(float x) {
  const float shifted = x * kLog2E + kRoundMagic;
  const float n = shifted - kRoundMagic;
  return {(x - n * kLn2High) - n * kLn2Low, wrapping_sub(float_to_bits(shifted), float_to_bits(kRoundMagic))};
}

/// (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2.
inline float exp_tail(float r) {
  float p = 0.001388249556F;
  p = p * r + 0.008366581134F;
  p = p * r + 0.04166720199F;
  p = p * r + 0.1666654317F;
  return p * r + 0.4999999814F;
}

/// x = 2^n (1 + f) with 1 + f in [2/3, 4/3), for positive normal x.
struct LogArgument {
  float f;
  std::int32_t n;
};
inline LogArgument reduce_log(float x) {
  constexpr std::int32_t kTwoThirds = 0x3f2aaaab;
  const std::int32_t b = wrapping_sub(float_to_bits(x), kTwoThirds);
  return {bits_to_float((b & 0x007fffff) + kTwoThirds) - 1.0F, b >> 23};
}

/// (log(1 + f) - f + f^2 / 2) / f^3 for f in [-1/3, 1/3].
inline float log_tail(float f) {
  float p = -0.128910231F;
  p = p * f + 0.1398545125F;
  p = p * f - 0.1218442704F;
  p = p * f + 0.1400566775F;
  p = p * f - 0.1668047459F;
  p = p * f + 0.20010418F;
  p = p * f - 0.2499979796F;
  return p * f + 0.3333321577F;
}

/// Subnormals are scaled into the normal range first.
struct Normalised {
  float x;
  float exponent;
};
inline Normalised normalise(float x) {
  const bool tiny = x < std::numeric_limits<float>::min();
  return {tiny ? x * 0x1p23F : x, tiny ? -23.0F : 0.0F};
}

/// What a logarithm is where the polynomial is not asked: 0, negative, infinite, NaN.
inline float log_special(float x, float regular) {
  float y = x < kInfinity ? regular : x;  // infinity and NaN
  y = x == 0.0F ? -kInfinity : y;
  return x < 0.0F ? kNan : y;
}

/// sin and cos of r + n pi/2 for |r| <= pi/4, from the quadrant n.
inline float sin_of_quadrant(float r, std::int32_t n) {
  const float u = r * r;
  float s = 2.718303717e-6F;
  s = s * u - 0.0001983933402F;
  s = s * u + 0.008333329383F;
  s = s * u - 0.1666666664F;
  s = r + r * (u * s);
  float c = -2.72101608e-7F;
  c = c * u + 2.479951907e-5F;
  c = c * u - 0.001388888375F;
  c = c * u + 0.04166666662F;
  c = (1.0F - 0.5F * u) + u * u * c;
  const float y = (n & 1) != 0 ? c : s;
  return bits_to_float(float_to_bits(y) ^ ((n & 2) << 30));
}

/// sin(x + quadrants pi/2). The reduction is done in double, where x has bits to spare.
inline float sin_shifted(float x, std::int32_t quadrants) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52
  const double wide = x;
  const double shifted = wide * 0.63661977236758134308 + kMagic;
  const double n = shifted - kMagic;
  // pi/2 in two parts, the first of 33 bits, so that its multiples up to 2^20 are exact.
  const double r = (wide - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11;
  const auto low = static_cast<std::int32_t>(std::bit_cast<std::int64_t>(shifted));
  return sin_of_quadrant(static_cast<float>(r), low + quadrants);
}

}  // namespace internal

/// 1 ulp, subnormal results included.
inline float exp(float x) {
  // Beyond these the result is 0 or infinity; NaN passes both comparisons.
  x = x > 89.0F ? 89.0F : x;
  x = x < -104.0F ? -104.0F : x;
  const auto [r, n] = internal::reduce_exp(x);
  const float p = 1.0F + (r + r * r * internal::exp_tail(r));
  // 2^n may lie outside the normal range, its two factors do not.
  const std::int32_t half = n >> 1;
  return p * internal::power_of_two(half) * internal::power_of_two(n - half);
}
inline double exp(double x) { return std::exp(x); }

/// 1.6 ulp.
inline float expm1(float x) {
  x = x > 89.0F ? 89.0F : x;
  x = x < -30.0F ? -30.0F : x;
  const auto [r, n] = internal::reduce_exp(x);
  const float p = r + r * r * internal::exp_tail(r);
  const float half = internal::power_of_two(n - 1);  // 2^128 is not a float
  return (half * p + (half - 0.5F)) * 2.0F;
}
inline double expm1(double x) { return std::expm1(x); }

/// 1 ulp.
inline float log(float x) {
  const auto normal = internal::normalise(x);
  const auto [f, n] = internal::reduce_log(normal.x);
  const float e = static_cast<float>(n) + normal.exponent;
  const float tail = f * f * (f * internal::log_tail(f) - 0.5F) + e * internal::kLn2Low;
  return internal::log_special(x, (f + tail) + e * internal::kLn2High);
}
inline double log(double x) { return std::log(x); }

/// 2 ulp; exact for powers of two.
inline float log2(float x) {
  const auto normal = internal::normalise(x);
  const auto [f, n] = internal::reduce_log(normal.x);
  const float e = static_cast<float>(n) + normal.exponent;
  const float tail = f * f * (f * internal::log_tail(f) - 0.5F);
  // log2(e) in two parts, or its rounding would be felt next to 1.
  constexpr float kHigh = 1.44269502162933349609F;
  constexpr float kLow = 1.92596299112661746887e-8F;
  return internal::log_special(x, e + (f * kHigh + (tail * kHigh + (f + tail) * kLow)));
}
inline double log2(double x) { return std::log2(x); }

/// 2 ulp.
inline float log1p(float x) {
  const float u = 1.0F + x;
  // What the rounding of u lost, from the side on which the subtraction is exact.
  const float lost = x < 1.0F ? x - (u - 1.0F) : 1.0F - (u - x);
  const auto [f0, n] = internal::reduce_log(u);
  const float e = static_cast<float>(n);
  const float f = f0 + lost * internal::power_of_two(n > 100 ? -100 : -n);
  const float tail = f * f * (f * internal::log_tail(f) - 0.5F) + e * internal::kLn2Low;
  const float y = (f + tail) + e * internal::kLn2High;
  return internal::log_special(u, n == 0 && x == 0.0F ? x : y);
}
inline double log1p(double x) { return std::log1p(x); }

/// 2.5 ulp.
inline float tanh(float x) {
  const float a = std::fabs(x);
  const float t = expm1(2.0F * (a > 10.0F ? 10.0F : a));  // tanh(10) rounds to 1
  return std::copysign(t / (t + 2.0F), x);
}
inline double tanh(double x) { return std::tanh(x); }

/// 1 / (1 + e^-x); 2.1 ulp on both sides.
inline float sigmoid(float x) {
  const float e = exp(-std::fabs(x));
  return (x < 0.0F ? e : 1.0F) / (1.0F + e);
}
inline double sigmoid(double x) {
  const double e = std::exp(-std::fabs(x));
  return (x < 0 ? e : 1.0) / (1.0 + e);
}

/// 1.2 ulp.
inline float erf(float x) {
  const float a = std::fabs(x);
  const float u = x * x;
  float p = 7.853840992e-5F;
  p = p * u - 0.0008010187457F;
  p = p * u + 0.005188326984F;
  p = p * u - 0.02685381157F;
  p = p * u + 0.1128358514F;
  p = p * u - 0.3761262582F;
  p = p * u + 0.1283791657F;
  const float near = x + x * p;
  // 1 - exp(log(erfc)), where log(erfc) is a smooth polynomial; erf(4) rounds to 1.
  const float t = a > 4.0F ? 4.0F : a;
  float q = -2.169800325e-5F;
  q = q * t + 0.0004414773573F;
  q = q * t - 0.004205308597F;
  q = q * t + 0.02521040539F;
  q = q * t - 0.1084222056F;
  q = q * t - 0.6332162962F;
  q = q * t - 1.129580363F;
  q = q * t + 0.0001884790799F;
  const float far = std::copysign(1.0F - exp(q), x);
  return a < 1.0F ? near : far;
}
inline double erf(double x) { return std::erf(x); }

/// The normal distribution's cumulative function, (1 + erf(x / sqrt 2)) / 2. Error below 1e-7, which is less than erf
/// would leave, at half of its cost: one polynomial, for the logarithm, on one side. 0 below -6, where it is 1e-9.
inline float normal_cdf(float x) {
  const float a = std::fabs(x);
  const float t = a > 6.0F ? 6.0F : a;
  float q = 2.562998468e-7F;
  q = q * t - 5.862458337e-6F;
  q = q * t + 5.360199751e-5F;
  q = q * t - 0.0002202780769F;
  q = q * t - 9.261483140e-5F;
  q = q * t + 0.007033108325F;
  q = q * t - 0.05248691619F;
  q = q * t - 0.4592086068F;
  q = q * t - 1.151105447F;
  q = q * t - 0.9999999815F;
  // 2^q, for q in [-30, -1].
  const float shifted = q + internal::kRoundMagic;
  const float f = q - (shifted - internal::kRoundMagic);
  float p = 0.001327647187F;
  p = p * f + 0.009675541333F;
  p = p * f + 0.05550713274F;
  p = p * f + 0.2402211972F;
  p = p * f + 0.6931469671F;
  p = p * f + 1.0F;
  const std::int32_t n =
      internal::wrapping_sub(internal::float_to_bits(shifted), internal::float_to_bits(internal::kRoundMagic));
  float left = p * internal::power_of_two(n);
  left = a > 6.0F ? 0.0F : left;
  return x > 0.0F ? 1.0F - left : left;
}
inline double normal_cdf(double x) { return 0.5 * std::erfc(x * -0.70710678118654752440); }

/// 1.6 ulp for |x| up to kTrigonometricRange; wrong beyond it.
inline float sin(float x) { return internal::sin_shifted(x, 0); }
inline double sin(double x) { return std::sin(x); }
inline float cos(float x) { return internal::sin_shifted(x, 1); }
inline double cos(double x) { return std::cos(x); }

/// Larger arguments need a reduction with more bits of pi than fit here.
inline constexpr float kTrigonometricRange = 0x1p20F;

}  // namespace trinix::cpu::vm
