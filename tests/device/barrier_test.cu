#include "on_card.h"

#include <trinix/backends/cuda/device/tensor_copy.cuh>
#include <trinix/backends/cuda/device/wgmma.cuh>
#include <trinix/backends/cuda/launch.cuh>

/// @file
/// Barriers: when a phase is over and when it is not, bytes that are counted, rings, turns, registers that change
/// hands.

namespace trinix::cuda {

namespace {

/// Whether the phase of this parity is over, without waiting.
__device__ bool is_over(Barrier barrier, unsigned parity) {
  std::uint32_t over;
  asm volatile("{\n.reg .pred p;\nmbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
               : "=r"(over)
               : "r"(barrier), "r"(parity)
               : "memory");
  return over != 0;
}

__global__ void phases_kernel(int* seen) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __shared__ std::uint64_t memory;
  const Barrier barrier = shared_address(&memory);
  init_barrier(barrier, 2);
  fence_barrier_init();
  const auto note = [&] {
    *seen++ = static_cast<int>(is_over(barrier, 0));
    *seen++ = static_cast<int>(is_over(barrier, 1));
  };
  note();
  for (int i = 0; i < 5; ++i) {
    arrive(barrier);
    note();
  }
#else
  __trap();
#endif
}

class Barriers : public OnHopper {};

TEST_F(Barriers, APhaseEndsWithItsLastArrivalAndTheOneBeforeCountsAsOver) {
  const Tensor seen = zeros_on_card(12);
  launch("test", phases_kernel, {.grid = dim3(1), .block = dim3(1)}, stream(), seen.raw().as<int>());
  // (parity 0 is over, parity 1 is over) at first, and after each of five arrivals, of which two end a phase.
  EXPECT_EQ(on_host(seen), (std::vector<std::int32_t>{0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1}));
}

/// Expects 64 bytes; they come in two copies of 32.
__global__ void bytes_kernel(const int* from, int* seen, int* to) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __shared__ std::uint64_t memory;
  __shared__ __align__(128) int row[16];
  const Barrier barrier = shared_address(&memory);
  init_barrier(barrier, 1);
  fence_barrier_init();
  const auto note_later = [&] {
    const long long start = clock64();
    while (clock64() - start < 100000) {
    }
    *seen++ = static_cast<int>(is_over(barrier, 0));
  };
  arrive_expecting(barrier, 64);
  note_later();
  copy_bytes(shared_address(row), from, 32, barrier);
  note_later();
  copy_bytes(shared_address(row + 8), from + 8, 32, barrier);
  await(barrier, 0);
  *seen = static_cast<int>(is_over(barrier, 0));
  for (int i = 0; i < 16; ++i) to[i] = row[i];
#else
  __trap();
#endif
}

TEST_F(Barriers, APhaseWaitsForTheBytesThatWereAnnounced) {
  std::vector<std::int32_t> values;
  for (int i = 0; i < 16; ++i) values.push_back(100 + i);
  const Tensor from = on_card(values), seen = zeros_on_card(3), to = zeros_on_card(16);
  launch("test", bytes_kernel, {.grid = dim3(1), .block = dim3(1)}, stream(), from.raw().as<int>(),
         seen.raw().as<int>(), to.raw().as<int>());
  EXPECT_EQ(on_host(seen), (std::vector<std::int32_t>{0, 0, 1}));
  EXPECT_EQ(on_host(to), values);
}

constexpr int kFills = 101;
constexpr int kRow = 128;

/// As attention has it: one thread of the first warpgroup fills a ring, two warpgroups read all of it.
template <int kStages>
__global__ void __launch_bounds__(384) ring_kernel(const int* from, int* to) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __shared__ std::uint64_t memory[2 * kStages];
  __shared__ __align__(128) int rows[kStages][kRow];
  const auto there = [&](int slot) { return shared_address(memory + slot); };
  const auto read = [&](int slot) { return shared_address(memory + kStages + slot); };
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < kStages; ++slot) {
      init_barrier(there(slot), 1);
      init_barrier(read(slot), 2);
    }
    fence_barrier_init();
  }
  __syncthreads();
  RingPlace<kStages> place;
  const int group = static_cast<int>(threadIdx.x) / 128;
  if (group == 0) {
    for (int fill = 0; threadIdx.x == 0 && fill < kFills; ++fill) {
      const int slot = place.slot();
      await(read(slot), place.parity() ^ 1);
      arrive_expecting(there(slot), kRow * 4);
      copy_bytes(shared_address(rows[slot]), from + fill * kRow, kRow * 4, there(slot));
      place.advance();
    }
    return;
  }
  const int thread = static_cast<int>(threadIdx.x) % 128;
  for (int fill = 0; fill < kFills; ++fill) {
    const int slot = place.slot();
    await(there(slot), place.parity());
    to[((group - 1) * kFills + fill) * kRow + thread] = rows[slot][kRow - 1 - thread];
    sync_named<128>(group);  // everybody of the group has read
    place.advance();
    if (thread == 0) arrive(read(place.slot(1)));
  }
#else
  __trap();
#endif
}

TEST_F(Barriers, RingsHandOverEveryFillOnce) {
  std::vector<std::int32_t> values, expected;
  for (int i = 0; i < kFills * kRow; ++i) values.push_back(i * 7 + 3);
  for (int group = 0; group < 2; ++group) {
    for (int fill = 0; fill < kFills; ++fill) {
      for (int i = 0; i < kRow; ++i) expected.push_back((fill * kRow + kRow - 1 - i) * 7 + 3);
    }
  }
  const Tensor from = on_card(values);
  for (const auto kernel : {ring_kernel<1>, ring_kernel<2>, ring_kernel<4>}) {
    const Tensor to = zeros_on_card(static_cast<std::int64_t>(expected.size()));
    launch("test", kernel, {.grid = dim3(1), .block = dim3(384)}, stream(), from.raw().as<int>(), to.raw().as<int>());
    EXPECT_EQ(on_host(to), expected);
  }
}

constexpr int kTurns = 50;

/// Two warpgroups take turns: each waits for its name, and calls the other's.
__global__ void turns_kernel(int* order) {
  __shared__ volatile int count;
  const int group = static_cast<int>(threadIdx.x) / 128;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  if (group == 1) arrive_named<256>(1);  // the first turn is the first group's
  for (int turn = 0; turn < kTurns; ++turn) {
    sync_named<256>(1 + group);
    if (threadIdx.x % 128 == 0) {
      order[count] = group;
      count = count + 1;
    }
    const bool last = group == 1 && turn == kTurns - 1;
    if (!last) arrive_named<256>(2 - group);
  }
}

class NamedBarriers : public OnCard {};

TEST_F(NamedBarriers, WarpgroupsTakeTurns) {
  const Tensor order = zeros_on_card(2 * kTurns);
  launch("test", turns_kernel, {.grid = dim3(1), .block = dim3(256)}, stream(), order.raw().as<int>());
  const auto got = on_host(order);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], static_cast<int>(i % 2)) << i;
}

constexpr int kLive = 200;
constexpr int kRounds = 3;

/// More live registers than an even share: one group gives, two take.
__global__ void __launch_bounds__(384, 1) registers_kernel(const unsigned* from, unsigned* to) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  const int group = static_cast<int>(threadIdx.x) / 128;
  if (group == 0) {
    shrink_registers<24>();
    return;
  }
  grow_registers<240>();
  const int thread = static_cast<int>(threadIdx.x) - 128;
  unsigned x[kLive];
#pragma unroll
  for (int i = 0; i < kLive; ++i) x[i] = from[i * 256 + thread];
#pragma unroll 1
  for (int round = 0; round < kRounds; ++round) {
#pragma unroll
    for (int i = 0; i < kLive; ++i) x[i] = x[i] * 3 + x[(i + 77) % kLive];
  }
#pragma unroll
  for (int i = 0; i < kLive; ++i) to[i * 256 + thread] = x[i];
#else
  __trap();
#endif
}

TEST_F(Barriers, RegistersChangeHands) {
  std::vector<std::int32_t> values;
  for (int i = 0; i < kLive * 256; ++i) values.push_back(static_cast<int>(static_cast<unsigned>(i) * 2654435U + 17U));
  const Tensor from = on_card(values), to = zeros_on_card(kLive * 256);
  launch("test", registers_kernel, {.grid = dim3(1), .block = dim3(384)}, stream(), from.raw().as<unsigned>(),
         to.raw().as<unsigned>());
  std::vector<std::int32_t> expected(values.size());
  for (std::size_t thread = 0; thread < 256; ++thread) {
    unsigned x[kLive];
    for (std::size_t i = 0; i < kLive; ++i) x[i] = static_cast<unsigned>(values[i * 256 + thread]);
    for (int round = 0; round < kRounds; ++round) {
      for (std::size_t i = 0; i < kLive; ++i) x[i] = x[i] * 3 + x[(i + 77) % kLive];
    }
    for (std::size_t i = 0; i < kLive; ++i) expected[i * 256 + thread] = static_cast<std::int32_t>(x[i]);
  }
  EXPECT_EQ(on_host(to), expected);
}

}  // namespace

}  // namespace trinix::cuda
