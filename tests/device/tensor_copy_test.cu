#include "on_card.h"

#include <trinix/backends/cuda/device/tensor_copy.cuh>
#include <trinix/backends/cuda/device/wgmma.cuh>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/tensor_map.h>

/// @file
/// The copy engine: boxes inside, across and beyond the edges of a tensor, whose elements may lie between others;
/// sums that it adds to memory; and the swizzle, as stmatrix has to meet it.

namespace trinix::cuda {

namespace {

/// Where a box begins.
struct BoxPlace {
  int column, row, head, batch;
};

constexpr int kBoxRows = 64;
constexpr std::uint16_t kOld = 0xABCD;  // what shared memory held before

__global__ void copy_kernel(const __grid_constant__ CUtensorMap map, BoxPlace at, bool pass, std::uint16_t* to) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ char dynamic[];
  __shared__ std::uint64_t memory;
  const Barrier barrier = shared_address(&memory);
  const std::uint32_t base = (shared_address(dynamic) + 1023) / 1024 * 1024;
  auto* const panel = static_cast<std::uint16_t*>(__cvta_shared_to_generic(base));
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kBoxRows * 64; i += 128) panel[i] = kOld;
  if (thread == 0) {
    init_barrier(barrier, 1);
    fence_barrier_init();
  }
  fence_shared_for_async();
  __syncthreads();
  if (thread == 0) {
    prefetch(map);
    // Bytes that lie outside of the tensor count like the others.
    arrive_expecting(barrier, kBoxRows * kPanelPitch);
    copy_box(base, map, barrier, at.column, at.row, at.head, at.batch, pass ? kPassThroughCache : kKeepInCache);
  }
  await(barrier, 0);
  for (int i = thread; i < kBoxRows * 64; i += 128) to[i] = panel[i];
#else
  __trap();
#endif
}

class TensorCopy : public OnHopper {};

TEST_F(TensorCopy, BoxesMeetTheEdgesOfAPackedTensorWithZeros) {
  // q, k and v of 3, 2 and 2 heads in one tensor, (B, S, H, D); each number of 16 bits stands once.
  constexpr int kBatches = 2, kLength = 37, kAllHeads = 7, kDepth = 72;
  std::vector<std::uint16_t> values;
  for (int i = 0; i < kBatches * kLength * kAllHeads * kDepth; ++i) values.push_back(static_cast<std::uint16_t>(i + 1));
  const Tensor whole = halves_on_card(values);
  struct Part {
    int first_head, heads;
  };
  // Where kernels put boxes: they begin in the tensor's rows, heads and batches; a panel may begin behind its columns.
  const BoxPlace places[] = {{0, 0, 0, 0},  {64, 0, 1, 1},  {0, 30, 1, 1},  {64, 30, 0, 0}, {8, 1, 1, 0},
                             {0, 36, 0, 1}, {128, 0, 0, 0}, {72, 36, 1, 1}, {64, 36, 1, 1}};
  for (const Part part : {Part{0, 3}, Part{3, 2}, Part{5, 2}}) {
    const CUtensorMap map = make_tensor_map("test",
                                            {.data = whole.raw().as<std::uint16_t>() + part.first_head * kDepth,
                                             .batches = kBatches,
                                             .length = kLength,
                                             .heads = part.heads,
                                             .depth = kDepth,
                                             .batch_stride = kLength * kAllHeads * kDepth,
                                             .row_stride = kAllHeads * kDepth,
                                             .head_stride = kDepth},
                                            kBoxRows);
    for (const BoxPlace& at : places) {
      SCOPED_TRACE("heads from " + std::to_string(part.first_head) + ", box at column " + std::to_string(at.column) +
                   ", row " + std::to_string(at.row) + ", head " + std::to_string(at.head) + ", batch " +
                   std::to_string(at.batch));
      const Tensor to = zeros_on_card(kBoxRows * 64 / 2);
      launch("test", copy_kernel, {.grid = dim3(1), .block = dim3(128), .shared_bytes = kBoxRows * kPanelPitch + 1024},
             stream(), map, at, at.row % 2 == 0, to.raw().as<std::uint16_t>());
      const auto got = halves_on_host(to);
      int wrong = 0;
      for (int i = 0; i < kBoxRows; ++i) {
        for (int j = 0; j < 64; ++j) {
          const std::int64_t row = std::int64_t{at.row} + i, column = std::int64_t{at.column} + j;
          const bool inside = row >= 0 && row < kLength && column >= 0 && column < kDepth && at.head >= 0 &&
                              at.head < part.heads && at.batch >= 0 && at.batch < kBatches;
          std::uint16_t expected = 0;
          if (inside) {
            const std::int64_t head = part.first_head + at.head;
            const std::int64_t index = ((at.batch * kLength + row) * kAllHeads + head) * kDepth + column;
            expected = values[static_cast<std::size_t>(index)];
          }
          const std::uint16_t value = got[place_in_panel(i, j)];
          if (value != expected && ++wrong < 4)
            ADD_FAILURE() << i << ", " << j << ": " << value << ", not " << expected;
        }
      }
      EXPECT_EQ(wrong, 0);
    }
  }
}

constexpr int kAdded = 256;
constexpr int kAdders = 5;

/// Each block adds two rows of its own, the second from where the first lay.
__global__ void add_kernel(float* sum) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __shared__ __align__(128) float row[kAdded];
  const int thread = static_cast<int>(threadIdx.x);
  const int block = static_cast<int>(blockIdx.x);
  for (int part = 0; part < 2; ++part) {
    row[thread] = static_cast<float>((block + 1) * 1000 + thread * (part + 1));
    fence_shared_for_async();
    __syncthreads();
    if (thread == 0) {
      // In two pieces of one group.
      add_floats(sum + part * kAdded, shared_address(row), 64);
      add_floats(sum + part * kAdded + 16, shared_address(row + 16), kAdded * 4 - 64);
      commit_adds();
      await_adds_read<0>();
    }
    __syncthreads();
  }
#else
  __trap();
#endif
}

TEST_F(TensorCopy, SumsOfSeveralBlocksAreComplete) {
  const Tensor sum = from_vector(std::vector<float>(2 * kAdded, 0.5F)).to(Device::cuda());
  launch("test", add_kernel, {.grid = dim3(kAdders), .block = dim3(kAdded)}, stream(), sum.raw().as<float>());
  const auto got = sum.to(Device::cpu()).to_vector<float>();
  for (int part = 0; part < 2; ++part) {
    for (int i = 0; i < kAdded; ++i) {
      const int expected = kAdders * (kAdders + 1) / 2 * 1000 + kAdders * i * (part + 1);
      EXPECT_EQ(got[static_cast<std::size_t>(part * kAdded + i)], static_cast<float>(expected) + 0.5F)
          << part << ' ' << i;
    }
  }
}

/// A warpgroup stores 64 x 64 numbers, held as a product's operand, by stmatrix.
__global__ void store_kernel(std::uint16_t* to) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __shared__ __align__(1024) std::uint16_t panel[64 * 64];
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int warp_row = thread / 32 * 16;
  for (int step = 0; step < 4; ++step) {
    std::uint32_t r[4];
    for (int i = 0; i < 4; ++i) {
      const int row = warp_row + lane / 4 + i % 2 * 8;
      const int column = step * 16 + i / 2 * 8 + lane % 4 * 2;
      r[i] = static_cast<std::uint32_t>(row * 64 + column) | static_cast<std::uint32_t>(row * 64 + column + 1) << 16;
    }
    store_matrices(shared_address(panel) + SharedTile<64>::offset(warp_row + lane % 16, step * 2 + lane / 16), r);
  }
  __syncthreads();
  for (int i = thread; i < 64 * 64; i += 128) to[i] = panel[i];
#else
  __trap();
#endif
}

TEST_F(TensorCopy, StoredMatricesLieAsTheCopyEngineWouldPutThem) {
  const Tensor to = zeros_on_card(64 * 64 / 2);
  launch("test", store_kernel, {.grid = dim3(1), .block = dim3(128)}, stream(), to.raw().as<std::uint16_t>());
  const auto got = halves_on_host(to);
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < 64; ++column) {
      ASSERT_EQ(got[place_in_panel(row, column)], row * 64 + column) << row << ", " << column;
    }
  }
}

}  // namespace

}  // namespace trinix::cuda
