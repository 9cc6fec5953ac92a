#include <trinix/backends/cpu/random_bits.h>
#include <trinix/core/philox.h>

namespace trinix::cpu {

namespace {

constexpr int kGroup = kRandomBlocks;

/// Words 0 to 3 of kGroup blocks, in the low halves of 64-bit lanes: a product then needs no separate high and low
/// part, which makes this several times faster than one block at a time.
struct Group {
  std::uint64_t c0[kGroup], c1[kGroup], c2[kGroup], c3[kGroup];
};

/// The blocks of counters counter, counter + step, ...; counter_high is the upper half of each.
inline void draw(std::uint64_t seed, std::uint64_t counter, std::uint64_t step, std::uint32_t counter_high, Group& g) {
  for (int b = 0; b < kGroup; ++b) {
    const std::uint64_t n = counter + static_cast<std::uint64_t>(b) * step;
    g.c0[b] = static_cast<std::uint32_t>(n);
    g.c1[b] = n >> 32;
    g.c2[b] = counter_high;
    g.c3[b] = 0;
  }
  auto k0 = static_cast<std::uint32_t>(seed);
  auto k1 = static_cast<std::uint32_t>(seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
#pragma omp simd
    for (int b = 0; b < kGroup; ++b) {
      const std::uint64_t a = std::uint64_t{0xD2511F53U} * static_cast<std::uint32_t>(g.c0[b]);
      const std::uint64_t m = std::uint64_t{0xCD9E8D57U} * static_cast<std::uint32_t>(g.c2[b]);
      g.c0[b] = (m >> 32) ^ g.c1[b] ^ k0;
      g.c2[b] = (a >> 32) ^ g.c3[b] ^ k1;
      g.c1[b] = m;
      g.c3[b] = a;
    }
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
}

/// The numbers of kGroup consecutive blocks in their order.
void group_of_blocks(std::uint64_t seed, std::uint64_t counter, std::uint32_t counter_high, std::uint32_t* bits) {
  Group g;
  draw(seed, counter, 1, counter_high, g);
  for (int b = 0; b < kGroup; ++b) {
    bits[4 * b] = static_cast<std::uint32_t>(g.c0[b]);
    bits[4 * b + 1] = static_cast<std::uint32_t>(g.c1[b]);
    bits[4 * b + 2] = static_cast<std::uint32_t>(g.c2[b]);
    bits[4 * b + 3] = static_cast<std::uint32_t>(g.c3[b]);
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
  if (count - j > 4) {  // a whole group costs no more than one block by itself
    std::uint32_t last[4 * kGroup];
    group_of_blocks(state.seed, state.offset + static_cast<std::uint64_t>((first + j) / 4), counter_high, last);
    std::copy(last, last + (count - j), bits + j);
  } else if (j < count) {
    one_block();
  }
}

void random_words(std::uint64_t seed, std::uint64_t counter, std::uint64_t step, std::uint32_t* words) {
  Group g;
  draw(seed, counter, step, 0, g);
  const std::uint64_t* const from[] = {g.c0, g.c1, g.c2, g.c3};
  for (int w = 0; w < 4; ++w) {
#pragma omp simd
    for (int b = 0; b < kGroup; ++b) words[w * kGroup + b] = static_cast<std::uint32_t>(from[w][b]);
  }
}

}  // namespace trinix::cpu
