#pragma once

#include <algorithm>
#include <compare>
#include <map>
#include <mutex>
#include <vector>

/// @file
/// Blocks that stay take one item per round (order.cuh). Where items differ in length, as tiles of causal attention do,
/// how many heads lie between one long item and the next decides whether all blocks end together.

namespace trinix::cuda {

/// The place in a round of as many items as blocks that a block takes, and so the block that takes a place: every
/// second round goes backwards, so that where items go from long to short nobody gets the longest of each.
[[nodiscard]] constexpr int snake_place(int round, int block, int blocks) {
  return round % 2 == 0 ? block : blocks - 1 - block;
}

/// Items (tile, head) in sections of heads; within a section by tile, from long to short, then by head.
struct SnakeItems {
  int tiles;
  int heads;
  int fits;               ///< heads whose keys and values the L2 cache feeds to all blocks
  int blocks;             ///< each of which takes one item per round, every second round in opposite order
  int longest, shortest;  ///< time of the first and the last tile; between them it falls evenly

  friend auto operator<=>(const SnakeItems&, const SnakeItems&) = default;
};

/// The most that a block has to do, over the mean: 1 where all end together.
[[nodiscard]] inline double snake_imbalance(const SnakeItems& items, int section) {
  const int count = items.tiles * items.heads;
  const double step = items.tiles == 1 ? 0 : static_cast<double>(items.longest - items.shortest) / (items.tiles - 1);
  std::vector<double> load(static_cast<std::size_t>(items.blocks), 0.0);
  double all = 0;
  int i = 0;
  for (int first = 0; first < items.heads; first += section) {
    const int heads = std::min(section, items.heads - first);
    for (int in_section = 0; in_section < heads * items.tiles; ++in_section, ++i) {
      const double time = items.longest - step * (in_section / heads);
      load[static_cast<std::size_t>(snake_place(i / items.blocks, i % items.blocks, items.blocks))] += time;
      all += time;
    }
  }
  return *std::max_element(load.begin(), load.end()) * std::min(items.blocks, count) / all;
}

/// How many heads a section should have: about as many as the cache feeds, or all, whichever ends first. All heads at
/// once are read from memory more often, the more so the fewer blocks work on one head at the same time.
[[nodiscard]] inline int search_balanced_section(const SnakeItems& items) {
  constexpr double kGoodEnough = 1.02;
  constexpr int kTries = 24;  // to either side: a search is to cost less than what it saves
  const int fits = std::clamp(items.fits, 1, items.heads);
  int best = fits;
  double best_time = snake_imbalance(items, fits);
  const auto consider = [&](int section, double slower) {
    if (best_time <= kGoodEnough) return;
    const double time = snake_imbalance(items, section) * slower;
    if (time >= best_time) return;
    best = section;
    best_time = time;
  };
  const int step = std::max(1, fits / kTries);
  for (int section = fits - step; section >= std::max(1, fits / 3); section -= step) consider(section, 1);
  for (int section = fits + step; section <= std::min(items.heads, 2 * fits); section += step) consider(section, 1.01);
  consider(items.heads, items.blocks >= 2 * items.heads ? 1.02 : 1.1);
  return best;
}

/// The same, searched once for each kind of call.
[[nodiscard]] inline int balanced_section(const SnakeItems& items) {
  if (items.blocks == 0) return std::max(1, items.fits);  // nothing to do
  static std::mutex mutex;
  static std::map<SnakeItems, int> known;
  const std::lock_guard lock(mutex);
  if (known.size() > 1000) known.clear();  // of a program in which no two calls are alike
  const auto at = known.find(items);
  return at != known.end() ? at->second : known[items] = search_balanced_section(items);
}

}  // namespace trinix::cuda
