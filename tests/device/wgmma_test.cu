#include "on_card.h"

#include <gtest/gtest.h>
#include <vector>

#include <trinix/backends/cuda/device/tensor_copy.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/device/wgmma.cuh>
#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/tensor_map.h>
#include <trinix/core/backend.h>
#include <trinix/core/tensor.h>

/// @file
/// Every layout of operands that the kernels multiply by wgmma, fetched by the copy engine, against products of
/// integers on the host: exact, and no two places hold the same.

namespace trinix::cuda {

namespace {

constexpr int kM = 64;
constexpr int kK = 128;

/// Where A comes from: shared memory, or registers.
enum class From { rows, columns, registers };

/// @tparam kFrom the first of B's columns, where B lies by columns: a product may take a part of a panel
template <int kN, From kA, Lies kB, int kFrom = 0>
struct Layout {
  static_assert(kFrom == 0 || kB == Lies::by_columns);
  // Rows and columns of the matrices as they lie in memory.
  static constexpr int kARows = kA == From::columns ? kK : kM;
  static constexpr int kAColumns = kA == From::columns ? kM : kK;
  static constexpr int kBRows = kB == Lies::by_columns ? kK : kN;
  static constexpr int kBColumns = kB == Lies::by_columns ? kFrom + kN : kK;
  static constexpr int kAPanel = kARows * kPanelPitch;
  static constexpr int kBPanel = kBRows * kPanelPitch;
  static constexpr int kAPanels = (kAColumns + 63) / 64;
  static constexpr int kBPanels = (kBColumns + 63) / 64;
  static constexpr int kBytes = kAPanels * kAPanel + kBPanels * kBPanel;
};

template <class T, int kN, From kA, Lies kB, int kFrom>
__global__ void __launch_bounds__(128)
    multiply_kernel(const __grid_constant__ CUtensorMap a_map, const __grid_constant__ CUtensorMap b_map, const T* a,
                    float* d) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using L = Layout<kN, kA, kB, kFrom>;
  extern __shared__ char dynamic[];
  __shared__ std::uint64_t barrier;
  const Barrier there = shared_address(&barrier);
  const std::uint32_t a_tile = (shared_address(dynamic) + 1023) / 1024 * 1024;
  const std::uint32_t b_tile = a_tile + L::kAPanels * L::kAPanel;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    init_barrier(there, 1);
    fence_barrier_init();
  }
  __syncthreads();
  if (thread == 0) {
    arrive_expecting(there, L::kBytes);
    for (int i = 0; i < L::kAPanels; ++i) {
      copy_box(a_tile + i * L::kAPanel, a_map, there, i * 64, 0, 0, 0, kKeepInCache);
    }
    for (int i = 0; i < L::kBPanels; ++i) {
      copy_box(b_tile + i * L::kBPanel, b_map, there, i * 64, 0, 0, 0, kKeepInCache);
    }
  }
  await(there, 0);
  const int g = thread / 32 * 16 + thread % 32 / 4;
  const int t = thread % 4;
  float sum[kN / 8][4];
  std::uint32_t registers[kK / 16][4];
  if constexpr (kA == From::registers) {
#pragma unroll
    for (int step = 0; step < kK / 16; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const T* pair = a + (g + i % 2 * 8) * kK + step * 16 + i / 2 * 8 + 2 * t;
        registers[step][i] = pack_pair<T>(widen(pair[0]), widen(pair[1]));
      }
    }
    pin(registers);
  }
  begin_products();
#pragma unroll
  for (int step = 0; step < kK / 16; ++step) {
    const std::uint64_t b = kB == Lies::by_columns
                                ? columns_operand(b_tile + step * 16 * kPanelPitch + 2 * kFrom, L::kBPanel)
                                : rows_operand(b_tile + step / 4 * L::kBPanel + step % 4 * 32);
    if constexpr (kA == From::registers) {
      multiply<T, kB>(sum, registers[step], b, step > 0);
    } else if constexpr (kA == From::columns) {
      multiply<T, Lies::by_columns, kB>(sum, columns_operand(a_tile + step * 16 * kPanelPitch, L::kAPanel), b,
                                        step > 0);
    } else {
      multiply<T, Lies::by_rows, kB>(sum, rows_operand(a_tile + step / 4 * L::kAPanel + step % 4 * 32), b, step > 0);
    }
  }
  commit_products();
  await_products<0>();
  pin(sum);
#pragma unroll
  for (int n = 0; n < kN / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) d[(g + e / 2 * 8) * kN + n * 8 + 2 * t + e % 2] = sum[n][e];
  }
#else
  __trap();
#endif
}

/// Small integers, whose products add up exactly.
std::vector<double> integers(int rows, int columns, int seed) {
  std::vector<double> values;
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) values.push_back((i * 31 + j * 17 + i * j * seed) % 61 - 30);
  }
  return values;
}

template <class T, int kN, From kA, Lies kB, int kFrom = 0>
void expect_product(DType dtype) {
  using L = Layout<kN, kA, kB, kFrom>;
  const auto a = integers(L::kARows, L::kAColumns, 7);
  const auto b = integers(L::kBRows, L::kBColumns, 5);
  const auto on_card = [&](const std::vector<double>& values, int rows, int columns) {
    return from_vector(values, Shape{rows, columns}).to(dtype).to(Device::cuda());
  };
  const Tensor a_there = on_card(a, L::kARows, L::kAColumns);
  const Tensor b_there = on_card(b, L::kBRows, L::kBColumns);
  const Tensor d = empty({kM, kN}, {DType::f32, Device::cuda()});
  const auto map = [&](const Tensor& t, int rows, int columns) {
    return make_tensor_map("test", {.data = t.raw().data, .length = rows, .depth = columns, .row_stride = columns},
                           rows);
  };
  const Stream stream = stream_of(Device::cuda());
  launch("test", multiply_kernel<T, kN, kA, kB, kFrom>,
         {.grid = dim3(1), .block = dim3(128), .shared_bytes = L::kBytes + 1024}, stream,
         map(a_there, L::kARows, L::kAColumns), map(b_there, L::kBRows, L::kBColumns),
         static_cast<const T*>(a_there.raw().data), d.raw().as<float>());
  const Tensor on_host = d.to(Device::cpu());
  const float* const got = on_host.raw().as<float>();
  int wrong = 0;
  for (int i = 0; i < kM; ++i) {
    for (int j = 0; j < kN; ++j) {
      double want = 0;
      for (int k = 0; k < kK; ++k) {
        const double x = kA == From::columns ? a[k * kM + i] : a[i * kK + k];
        const double y = kB == Lies::by_columns ? b[k * L::kBColumns + kFrom + j] : b[j * kK + k];
        want += x * y;
      }
      if (got[i * kN + j] != want && ++wrong < 5)
        ADD_FAILURE() << "at " << i << ", " << j << ": " << got[i * kN + j] << ", not " << want;
    }
  }
  EXPECT_EQ(wrong, 0);
}

class Wgmma : public OnHopper {};

TEST_F(Wgmma, BothOperandsByRows) {
  expect_product<bfloat16, 64, From::rows, Lies::by_rows>(DType::bf16);
  expect_product<bfloat16, 96, From::rows, Lies::by_rows>(DType::bf16);
  expect_product<bfloat16, 128, From::rows, Lies::by_rows>(DType::bf16);
  expect_product<float16, 128, From::rows, Lies::by_rows>(DType::f16);
}

TEST_F(Wgmma, FirstInRegistersSecondByColumns) {
  expect_product<bfloat16, 64, From::registers, Lies::by_columns>(DType::bf16);
  expect_product<bfloat16, 96, From::registers, Lies::by_columns>(DType::bf16);
  expect_product<bfloat16, 128, From::registers, Lies::by_columns>(DType::bf16);
  expect_product<float16, 128, From::registers, Lies::by_columns>(DType::f16);
}

TEST_F(Wgmma, BothOperandsByColumns) {
  expect_product<bfloat16, 64, From::columns, Lies::by_columns>(DType::bf16);
  expect_product<bfloat16, 96, From::columns, Lies::by_columns>(DType::bf16);
  expect_product<bfloat16, 128, From::columns, Lies::by_columns>(DType::bf16);
  expect_product<float16, 64, From::columns, Lies::by_columns>(DType::f16);
}

TEST_F(Wgmma, SecondIsHalfOfAPanel) {
  expect_product<bfloat16, 32, From::columns, Lies::by_columns>(DType::bf16);
  expect_product<bfloat16, 32, From::columns, Lies::by_columns, 32>(DType::bf16);
  expect_product<float16, 32, From::columns, Lies::by_columns, 32>(DType::f16);
}

TEST_F(Wgmma, FirstByRowsSecondByColumns) {
  expect_product<bfloat16, 64, From::rows, Lies::by_columns>(DType::bf16);
  expect_product<bfloat16, 128, From::rows, Lies::by_columns>(DType::bf16);
}

}  // namespace

}  // namespace trinix::cuda
