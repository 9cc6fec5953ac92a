#pragma once

#include <algorithm>
#include <cstdint>

#include <trinix/backends/cpu/loops.h>
#include <trinix/core/generator.h>

/// @file
/// Random bits in bulk, for every kernel that draws.

namespace trinix::cpu {

/// bits[j] = lane i % 4 of philox(seed, offset + i / 4, counter_high) for i = first + j, j in [0, count). About 0.25 ns
/// each.
void random_bits(const RandomState& state, std::int64_t first, std::int64_t count, std::uint32_t* bits,
                 std::uint32_t counter_high = 0);

/// Blocks that random_words draws.
inline constexpr int kRandomBlocks = 32;

/// Word w of philox(seed, counter + b * step) at words[kRandomBlocks * w + b], for b in [0, kRandomBlocks):
/// neighbouring rows of a matrix side by side.
void random_words(std::uint64_t seed, std::uint64_t counter, std::uint64_t step, std::uint32_t* words);

/// Numbers drawn at a time: small enough that bits and values stay in the first-level cache.
inline constexpr std::int64_t kRandomTile = 2048;

/// Calls f(first, count) for tiles of at most kRandomTile elements that cover [0, total), in parallel.
template <class F>
void for_each_random_tile(std::int64_t total, F&& f) {
  const std::int64_t tiles = (total + kRandomTile - 1) / kRandomTile;
  parallel_for(tiles, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) f(t * kRandomTile, std::min(kRandomTile, total - t * kRandomTile));
  });
}

}  // namespace trinix::cpu
