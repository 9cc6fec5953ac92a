#include <gtest/gtest.h>

#include <trinix/backends/cuda/attention/flash/balance.h>

/// How the work of causal attention is dealt to blocks that stay: arithmetic of the host, which needs no card.

namespace trinix::testing {
namespace {

using cuda::SnakeItems;

TEST(AttentionBalance, ImbalanceIsTheLongestBlockOverTheMean) {
  // Two heads of three tiles, 3 2 1: by tile 3 3 2 2 1 1, of which two blocks get 3 2 1 each.
  EXPECT_DOUBLE_EQ(
      cuda::snake_imbalance({.tiles = 3, .heads = 2, .fits = 1, .blocks = 2, .longest = 3, .shortest = 1}, 2), 1.0);
  // Head by head 3 2 1 3 2 1: rounds of two are 3 2, 3 1 backwards, 2 1, so 3 + 3 + 2 is the most.
  EXPECT_DOUBLE_EQ(
      cuda::snake_imbalance({.tiles = 3, .heads = 2, .fits = 1, .blocks = 2, .longest = 3, .shortest = 1}, 1),
      8.0 / 6.0);
}

TEST(AttentionBalance, BlocksEndTogether) {
  constexpr SnakeItems cases[] = {
      {32, 32, 12, 132, 33, 2},   // 4096 queries of 32 heads, forward
      {32, 32, 6, 132, 65, 3},    // and backward
      {64, 64, 3, 132, 129, 3},   // 8192 of 4 x 16, backward
      {6, 384, 96, 132, 9, 2},    // 1024 of 32 x 12
      {8, 384, 48, 132, 9, 2},    //
      {2, 384, 192, 132, 3, 2},   // 256 of 64 x 6
      {16, 128, 16, 132, 33, 3},  // 2048 of 8 x 16
      {32, 8, 1, 132, 260, 12},   // four heads to a head of keys
  };
  for (const SnakeItems& items : cases) {
    const int section = cuda::balanced_section(items);
    EXPECT_LE(cuda::snake_imbalance(items, section), 1.035) << items.tiles << " tiles, " << items.heads << " heads";
    EXPECT_EQ(cuda::balanced_section(items), section);
  }
}

/// 384 items for 132 blocks are less than three each: the best that there is leaves the busiest with a twelfth more.
TEST(AttentionBalance, FewItemsAreDealtAsWellAsAnySectionDoes) {
  constexpr SnakeItems items = {16, 24, 24, 132, 17, 2};  // 2048 queries of 2 x 12, backward
  const double chosen = cuda::snake_imbalance(items, cuda::balanced_section(items));
  for (int section = 1; section <= items.heads; ++section) {
    EXPECT_LE(chosen, cuda::snake_imbalance(items, section) + 1e-12);
  }
}

TEST(AttentionBalance, WhatIsBalancedStays) {
  EXPECT_EQ(cuda::balanced_section({.tiles = 32, .heads = 33, .fits = 5, .blocks = 132, .longest = 7, .shortest = 7}),
            5);
  EXPECT_EQ(cuda::balanced_section({.tiles = 1, .heads = 1, .fits = 1, .blocks = 1, .longest = 2, .shortest = 2}), 1);
}

TEST(AttentionBalance, NothingToDoHasASectionToo) {
  EXPECT_EQ(cuda::balanced_section({.tiles = 0, .heads = 4, .fits = 3, .blocks = 0, .longest = 1, .shortest = 1}), 3);
  EXPECT_EQ(cuda::balanced_section({.tiles = 4, .heads = 0, .fits = 0, .blocks = 0, .longest = 5, .shortest = 2}), 1);
}

TEST(AttentionBalance, SectionsHaveAtLeastOneHeadAndAtMostAll) {
  for (int tiles = 1; tiles <= 9; ++tiles) {
    for (int heads = 1; heads <= 9; ++heads) {
      for (int fits = 1; fits <= heads; ++fits) {
        const SnakeItems items = {tiles, heads, fits, std::min(7, tiles * heads), tiles + 1, 2};
        const int section = cuda::balanced_section(items);
        EXPECT_GE(section, 1);
        EXPECT_LE(section, heads);
        // Only a larger section than the cache feeds is paid for: no other is chosen that is worse.
        EXPECT_LE(cuda::snake_imbalance(items, section), cuda::snake_imbalance(items, fits) + 1e-12);
      }
    }
  }
}

}  // namespace
}  // namespace trinix::testing
