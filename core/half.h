#pragma once

#include <bit>
#include <cstdint>

/// @file
/// The 16-bit floating-point storage types. Arithmetic on them is done in float; they convert implicitly to float and
/// explicitly from it, rounding to nearest even.

namespace trinix {

/// Brain floating point: 8 exponent bits, 7 mantissa bits.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  constexpr explicit bfloat16(float value) : bits(round(value)) {}
  constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

  static constexpr bfloat16 from_bits(std::uint16_t b) {
    bfloat16 r;
    r.bits = b;
    return r;
  }

 private:
  static constexpr std::uint16_t round(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    // A NaN keeps its upper bits and is forced quiet, so that rounding cannot carry it into infinity.
    const std::uint32_t nan = (u >> 16) | 0x0040U;
    const std::uint32_t rounded = (u + 0x7fffU + ((u >> 16) & 1U)) >> 16;
    return static_cast<std::uint16_t>((u & 0x7fffffffU) > 0x7f800000U ? nan : rounded);
  }
};

/// IEEE 754 binary16: 5 exponent bits, 10 mantissa bits, largest finite value 65504.
struct float16 {
  std::uint16_t bits = 0;

  float16() = default;
  constexpr explicit float16(float value) : bits(round(value)) {}
  constexpr operator float() const { return widen(bits); }

  static constexpr float16 from_bits(std::uint16_t b) {
    float16 r;
    r.bits = b;
    return r;
  }

 private:
  // Both directions are branch-free selects so that loops over them vectorise.
  static constexpr float widen(std::uint16_t h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000U) << 16;
    const std::uint32_t body = static_cast<std::uint32_t>(h & 0x7fffU) << 13;
    const std::uint32_t exponent = body & 0x0f800000U;
    const std::uint32_t normal = body + 0x38000000U;   // rebias 15 -> 127
    const std::uint32_t special = body + 0x70000000U;  // infinity and NaN
    const float subnormal = std::bit_cast<float>(body + 0x38800000U) - std::bit_cast<float>(0x38800000U);
    const std::uint32_t finite = exponent == 0 ? std::bit_cast<std::uint32_t>(subnormal) : normal;
    return std::bit_cast<float>(sign | (exponent == 0x0f800000U ? special : finite));
  }

  static constexpr std::uint16_t round(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (u >> 16) & 0x8000U;
    const std::uint32_t a = u & 0x7fffffffU;
    // Subnormal results: adding 0.5 places the mantissa where the hardware rounds it to nearest even.
    const std::uint32_t small = std::bit_cast<std::uint32_t>(std::bit_cast<float>(a) + 0.5F) - 0x3f000000U;
    const std::uint32_t normal = (a + 0xc8000fffU + ((a >> 13) & 1U)) >> 13;
    const std::uint32_t nan = 0x7e00U;
    std::uint32_t body = a < 0x38800000U ? small : normal;
    body = a >= 0x477ff000U ? 0x7c00U : body;  // 65520 and above round to infinity
    body = a > 0x7f800000U ? nan : body;
    return static_cast<std::uint16_t>(sign | body);
  }
};

}  // namespace trinix
