#pragma once

#include <algorithm>
#include <cstdint>

/// @file
/// Into how many parts the keys are split.

namespace trinix::cuda {

inline constexpr int kMostSplits = 128;

/// @param units blocks that there are without a split
/// @param tiles of keys that a block then walks over, at most
/// @param multiprocessors of the card
/// @param blocks that a multiprocessor runs at once
[[nodiscard]] inline int count_splits(std::int64_t units, int tiles, int multiprocessors, int blocks) {
  // In the time that one block alone takes for a tile. Some blocks fewer than there are multiprocessors read as fast as
  // the memory gives: from there on a block more slows the others down. Beside that count a wave's start, until its
  // first tiles are there, the second kernel, and what every part adds to it.
  constexpr double kStart = 2;
  constexpr double kCombine = 4;
  constexpr double kPart = 0.05;
  const double saturating = 0.8 * multiprocessors;
  const std::int64_t slots = std::int64_t{multiprocessors} * blocks;
  int best = 1;
  double least = 0;
  for (int splits = 1; splits <= std::min(tiles, kMostSplits); ++splits) {
    const int walk = (tiles + splits - 1) / splits;
    const auto wave = [&](std::int64_t count) {
      return kStart + walk * std::max(1.0, static_cast<double>(count) / saturating);
    };
    const std::int64_t last = units * splits % slots;
    const double time = static_cast<double>(units * splits / slots) * wave(slots) + (last > 0 ? wave(last) : 0) +
                        (splits > 1 ? kCombine + kPart * splits : 0);
    if (splits == 1 || time < least) {
      best = splits;
      least = time;
    }
  }
  return best;
}

}  // namespace trinix::cuda
