#pragma once

#include <array>
#include <cstdint>

/// @file
/// Philox 4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11).
/// A pure function of (seed, counter): any element can be drawn in any order on any device, and drawn again.

#if defined(__CUDACC__)
#define TRINIX_HOST_DEVICE __host__ __device__
#else
#define TRINIX_HOST_DEVICE
#endif

namespace trinix {

struct PhiloxBlock {
  std::uint32_t x[4];
};

/// Four independent 32-bit values for one counter of 128 bits, given as two halves.
TRINIX_HOST_DEVICE inline PhiloxBlock philox(std::uint64_t seed, std::uint64_t counter_low,
                                             std::uint64_t counter_high = 0) {
  std::uint32_t c0 = static_cast<std::uint32_t>(counter_low), c1 = static_cast<std::uint32_t>(counter_low >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(counter_high), c3 = static_cast<std::uint32_t>(counter_high >> 32);
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = static_cast<std::uint64_t>(0xD2511F53U) * c0;
    const std::uint64_t b = static_cast<std::uint64_t>(0xCD9E8D57U) * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(b >> 32) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(a >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(b);
    c3 = static_cast<std::uint32_t>(a);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return {{c0, c1, c2, c3}};
}

/// Uniform in [0, 1) with 24 bits, exact in f32.
TRINIX_HOST_DEVICE inline float uniform_from_bits(std::uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24F;
}

}  // namespace trinix
