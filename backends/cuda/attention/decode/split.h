#pragma once

#include <algorithm>
#include <cstdint>

/// @file
/// Into how many parts the keys are split.

namespace trinix::cuda {

inline constexpr int kMostSplits = 128;

/// @param units blocks that there are without a split
/// @param tiles of keys that a block then walks over, at most
/// @param slots blocks that the card runs at once
[[nodiscard]] inline int count_splits(std::int64_t units, int tiles, int slots) {
  // In the time of a tile: a block's start, until its first tile is there, and combining, by what one part more reads.
  constexpr double kStart = 2;
  constexpr double kCombine = 0.05;
  int best = 1;
  double least = 0;
  for (int splits = 1; splits <= std::min(tiles, kMostSplits); ++splits) {
    const std::int64_t waves = (units * splits + slots - 1) / slots;
    const double time = static_cast<double>(waves) * (kStart + (tiles + splits - 1) / splits) +
                        (splits > 1 ? kStart + kCombine * splits : 0);
    if (splits == 1 || time < least) {
      best = splits;
      least = time;
    }
  }
  return best;
}

}  // namespace trinix::cuda
