// The CPU's caching allocator, seen through tensors and memory_stats().
#include "support/errors.h"

#include <cstdint>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>
#include <vector>

#include <trinix/core/backend.h>
#include <trinix/core/error.h>
#include <trinix/core/tensor.h>

// Under AddressSanitizer a request that cannot be met must fail as it does elsewhere, instead of ending the process.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

namespace trinix {
namespace {

using testing::message_of;

TEST(Allocator, EveryBlockIsAligned) {
  for (std::int64_t bytes = 0; bytes < 3000; bytes += 7) {
    const Tensor t = empty({bytes}, {DType::u8});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.raw_data()) % 64, 0U) << bytes;
  }
  const Tensor large = empty({3 << 20}, {DType::u8});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(large.raw_data()) % (2 << 20), 0U);
}

TEST(Allocator, BlocksDoNotOverlap) {
  std::vector<Tensor> tensors;
  for (int i = 1; i < 200; ++i) tensors.push_back(full({i * 5}, i, {DType::i32}));
  for (int i = 1; i < 200; ++i) {
    for (const int v : tensors[static_cast<std::size_t>(i - 1)].to_vector<std::int32_t>()) ASSERT_EQ(v, i);
  }
}

TEST(Allocator, AFreedBlockServesTheNextRequestOfItsSize) {
  void* first = nullptr;
  { first = empty({12345}).raw_data(); }
  const auto before = memory_stats(Device::cpu());
  const Tensor again = empty({12345});
  EXPECT_EQ(again.raw_data(), first);
  EXPECT_EQ(memory_stats(Device::cpu()).system_allocations, before.system_allocations);
  EXPECT_EQ(memory_stats(Device::cpu()).allocations, before.allocations + 1);
}

TEST(Allocator, ALoopOfTheSameSizesAsksTheSystemOnce) {
  const auto step = [] {
    const Tensor a = empty({1000, 7});
    const Tensor b = empty({333});
    const Tensor c = empty({1000, 7});
  };
  step();
  const auto before = memory_stats(Device::cpu()).system_allocations;
  for (int i = 0; i < 100; ++i) step();
  EXPECT_EQ(memory_stats(Device::cpu()).system_allocations, before);
}

TEST(Allocator, CountsWhatIsInUseAndThePeak) {
  const Device cpu;
  const std::int64_t before = memory_stats(cpu).allocated;
  reset_peak_memory(cpu);
  EXPECT_EQ(memory_stats(cpu).peak_allocated, before);
  {
    const Tensor t = empty({1 << 20}, {DType::u8});
    const std::int64_t now = memory_stats(cpu).allocated;
    EXPECT_GE(now, before + (1 << 20));
    EXPECT_LE(now, before + (1 << 20) / 8 * 9);  // at most an eighth is wasted
    EXPECT_EQ(memory_stats(cpu).peak_allocated, now);
    const Tensor view = t.narrow(0, 0, 10);
    EXPECT_EQ(memory_stats(cpu).allocated, now) << "a view takes no memory";
  }
  EXPECT_EQ(memory_stats(cpu).allocated, before);
  EXPECT_GE(memory_stats(cpu).peak_allocated, before + (1 << 20));
  EXPECT_GE(memory_stats(cpu).reserved, memory_stats(cpu).allocated);
}

TEST(Allocator, EmptyCacheReturnsFreeBlocks) {
  const Device cpu;
  { const Tensor t = empty({1 << 22}); }
  const auto before = memory_stats(cpu);
  empty_cache(cpu);
  const auto after = memory_stats(cpu);
  EXPECT_LE(after.reserved, before.reserved - (4 << 22));
  EXPECT_EQ(after.allocated, before.allocated);
  EXPECT_EQ(after.reserved, after.allocated) << "only live blocks are kept";
}

TEST(Allocator, AViewKeepsItsStorageAlive) {
  Tensor view;
  {
    const Tensor t = arange(100);
    view = t.narrow(0, 50, 3);
  }
  for (int i = 0; i < 10; ++i) static_cast<void>(full({100}, -1, {DType::i64}));
  EXPECT_THAT(view.to_vector<std::int64_t>(), ::testing::ElementsAre(50, 51, 52));
}

TEST(Allocator, AskingForTooMuchSaysHowMuchThereIsAndHarmsNothing) {
  const Tensor kept = arange(10);
  const auto before = memory_stats(Device::cpu());
  const std::string text =
      message_of<OutOfMemory>([] { static_cast<void>(empty({std::int64_t{1} << 50}, {DType::u8})); });
  EXPECT_THAT(text, ::testing::MatchesRegex(
                        "\\[allocate\\] 1125899906842624 bytes were asked for on cpu; about [0-9]+ bytes are free, "
                        "[0-9]+ are in use by tensors and [0-9]+ were at the peak; use a smaller batch"));
  EXPECT_THROW(static_cast<void>(zeros({std::int64_t{1} << 48})), OutOfMemory);
  EXPECT_THROW(static_cast<void>(empty({std::int64_t{1} << 59}, {DType::f64})), OutOfMemory);
  EXPECT_THROW(static_cast<void>(empty({(std::int64_t{1} << 62) + 1}, {DType::u8})), OutOfMemory);
  EXPECT_EQ(memory_stats(Device::cpu()).allocated, before.allocated);
  EXPECT_EQ(memory_stats(Device::cpu()).allocations, before.allocations);
  EXPECT_EQ(kept.to_vector<std::int64_t>()[9], 9);
  EXPECT_EQ(ones({1000}).to_vector<float>()[999], 1.0F);
}

TEST(Allocator, ThreadsShareIt) {
  const std::int64_t before = memory_stats(Device::cpu()).allocated;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &wrong] {
      for (int i = 1; i < 300; ++i) {
        const Tensor x = full({i}, t, {DType::i32});
        for (const int v : x.to_vector<std::int32_t>()) wrong += v != t;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(memory_stats(Device::cpu()).allocated, before);
}

}  // namespace
}  // namespace trinix
