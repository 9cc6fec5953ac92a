#include <trinix/backends/cpu/random_bits.h>
#include <trinix/core/philox.h>

namespace trinix::cpu {

namespace {

constexpr int kGroup = 32;  // counters at a time

/// The blocks of kGroup consecutive counters. 32-bit words travel in 64-bit lanes, of which only the low halves count:
/// a product then needs no separate high and low part, which makes this several times faster than one block at a time.
void group_of_blocks(std::uint64_t seed, std::uint64_t counter, std::uint32_t counter_high, std::uint32_t* bits) {
  std::uint64_t c0[kGroup], c1[kGroup], c2[kGroup], c3[kGroup];
  for (int b = 0; b < kGroup; ++b) {
    const std::uint64_t n = counter + static_cast<std::uint64_t>(b);
    c0[b] = static_cast<std::uint32_t>(n);
    c1[b] = n >> 32;
    c2[b] = counter_high;
    c3[b] = 0;
  }
  auto k0 = static_cast<std::uint32_t>(seed);
  auto k1 = static_cast<std::uint32_t>(seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
#pragma omp simd
    for (int b = 0; b < kGroup; ++b) {
      const std::uint64_t a = std::uint64_t{0xD2511F53U} * static_cast<std::uint32_t>(c0[b]);
      const std::uint64_t m = std::uint64_t{0xCD9E8D57U} * static_cast<std::uint32_t>(c2[b]);
      c0[b] = (m >> 32) ^ c1[b] ^ k0;
      c2[b] = (a >> 32) ^ c3[b] ^ k1;
      c1[b] = m;
      c3[b] = a;
    }
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  for (int b = 0; b < kGroup; ++b) {
    bits[4 * b] = static_cast<std::uint32_t>(c0[b]);
    bits[4 * b + 1] = static_cast<std::uint32_t>(c1[b]);
    bits[4 * b + 2] = static_cast<std::uint32_t>(c2[b]);
    bits[4 * b + 3] = static_cast<std::uint32_t>(c3[b]);
  }
}

}  // namespace

void random_bits(const RandomState& state, std::int64_t first, std::int64_t count, std::uint32_t* bits,
                 std::uint32_t counter_high) {
  std::int64_t j = 0;
  const auto one_block = [&] {
    const std::int64_t i = first + j;
    const PhiloxBlock block = philox(state.seed, state.offset + static_cast<std::uint64_t>(i / 4), counter_high);
    for (std::int64_t lane = i % 4; lane < 4 && j < count; ++lane) bits[j++] = block.x[lane];
  };
  if (first % 4 != 0 && count > 0) one_block();
  for (; j + 4 * kGroup <= count; j += 4 * kGroup) {
    group_of_blocks(state.seed, state.offset + static_cast<std::uint64_t>((first + j) / 4), counter_high, bits + j);
  }
  while (j < count) one_block();
}

}  // namespace trinix::cpu
