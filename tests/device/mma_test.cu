#include "on_card.h"

#include <trinix/backends/cuda/device/async_copy.cuh>
#include <trinix/backends/cuda/device/mma.cuh>
#include <trinix/backends/cuda/launch.cuh>

/// @file
/// mma.sync, ldmatrix and cp.async, which every card from sm_80 on has: each way to read an operand from a swizzled
/// tile, against products of integers on the host.

namespace trinix::cuda {

namespace {

constexpr int kRows = 64;
constexpr int kThere = 60;  // rows that exist; the others are filled with zeros

/// D = X Y^T, 64 x 64, and E = X^T Y, kColumns x kColumns, by one warp.
template <class T, int kColumns>
__global__ void products_kernel(const T* x, const T* y, float* d, float* e) {
  using Tile = SharedTile<kColumns>;
  __shared__ __align__(128) char tiles[2][kRows * Tile::kPitch];
  const int lane = static_cast<int>(threadIdx.x);
  for (int which = 0; which < 2; ++which) {
    for (int i = lane; i < kRows * Tile::kPitch / 4; i += 32) reinterpret_cast<std::uint32_t*>(tiles[which])[i] = ~0U;
  }
  __syncwarp();
  for (int which = 0; which < 2; ++which) {
    const T* const from = which == 0 ? x : y;
    for (int i = lane; i < kRows * Tile::kChunks; i += 32) {
      const int row = i / Tile::kChunks, chunk = i % Tile::kChunks;
      const bool there = row < kThere;
      copy_async(shared_address(tiles[which]) + Tile::offset(row, chunk),
                 from + (there ? row : 0) * kColumns + chunk * 8, there);
    }
    commit_copies();
  }
  await_copies<0>();
  __syncwarp();
  const std::uint32_t left = shared_address(tiles[0]), right = shared_address(tiles[1]);
  const auto store = [&](float* to, int pitch, int row, int column, const float(&sum)[2][4]) {
    for (int n = 0; n < 2; ++n) {
      for (int i = 0; i < 4; ++i) {
        to[(row + lane / 4 + i / 2 * 8) * pitch + column + n * 8 + lane % 4 * 2 + i % 2] = sum[n][i];
      }
    }
  };
  for (int m = 0; m < kRows; m += 16) {
    for (int n = 0; n < kRows; n += 16) {
      float sum[2][4] = {};
      for (int k = 0; k < kColumns; k += 16) {
        std::uint32_t a[4], b[4];
        load_matrices(a, Tile::step(left + lane_by_row<Tile>(lane), m, k / 8));
        load_matrices(b, Tile::step(right + lane_by_column<Tile>(lane), n, k / 8));
        mma<T>(sum[0], a, b[0], b[1]);
        mma<T>(sum[1], a, b[2], b[3]);
      }
      store(d, kRows, m, n, sum);
    }
  }
  for (int m = 0; m < kColumns; m += 16) {
    for (int n = 0; n < kColumns; n += 16) {
      float sum[2][4] = {};
      for (int k = 0; k < kRows; k += 16) {
        std::uint32_t a[4], b[4];
        load_matrices_transposed(a, Tile::step(left + lane_by_column<Tile>(lane), k, m / 8));
        load_matrices_transposed(b, Tile::step(right + lane_by_row<Tile>(lane), k, n / 8));
        mma<T>(sum[0], a, b[0], b[1]);
        mma<T>(sum[1], a, b[2], b[3]);
      }
      store(e, kColumns, m, n, sum);
    }
  }
}

/// An integer of at most 30, none of whose neighbours is the same.
int integer(int row, int column, int seed) { return (row * 31 + column * 17 + row * column * seed) % 61 - 30; }

class Mma : public OnCard {
 protected:
  template <class T, int kColumns>
  static void expect_products(DType dtype) {
    SCOPED_TRACE(std::to_string(kColumns) + " columns");
    const auto value = [](int row, int column, int seed) { return row < kThere ? integer(row, column, seed) : 0; };
    const auto operand = [&](int seed) {
      std::vector<double> values;
      for (int i = 0; i < kRows * kColumns; ++i) values.push_back(integer(i / kColumns, i % kColumns, seed));
      return from_vector(values).to(dtype).to(Device::cuda());
    };
    const Tensor x = operand(7), y = operand(5);
    const Tensor d = empty({kRows * kRows}, {DType::f32, Device::cuda()});
    const Tensor e = empty({kColumns * kColumns}, {DType::f32, Device::cuda()});
    launch("test", products_kernel<T, kColumns>, {.grid = dim3(1), .block = dim3(32)}, stream(),
           static_cast<const T*>(x.raw().data), static_cast<const T*>(y.raw().data), d.raw().template as<float>(),
           e.raw().template as<float>());
    const auto by_rows = d.to(Device::cpu()).template to_vector<float>();
    const auto by_columns = e.to(Device::cpu()).template to_vector<float>();
    int wrong = 0;
    for (int i = 0; i < kRows; ++i) {
      for (int j = 0; j < kRows; ++j) {
        int sum = 0;
        for (int k = 0; k < kColumns; ++k) sum += value(i, k, 7) * value(j, k, 5);
        wrong += by_rows[static_cast<std::size_t>(i * kRows + j)] != static_cast<float>(sum);
      }
    }
    EXPECT_EQ(wrong, 0) << "of X Y^T";
    wrong = 0;
    for (int i = 0; i < kColumns; ++i) {
      for (int j = 0; j < kColumns; ++j) {
        int sum = 0;
        for (int k = 0; k < kRows; ++k) sum += value(k, i, 7) * value(k, j, 5);
        wrong += by_columns[static_cast<std::size_t>(i * kColumns + j)] != static_cast<float>(sum);
      }
    }
    EXPECT_EQ(wrong, 0) << "of X^T Y";
  }
};

TEST_F(Mma, EveryWayToReadAnOperandGivesTheProduct) {
  expect_products<bfloat16, 32>(DType::bf16);
  expect_products<bfloat16, 64>(DType::bf16);
  expect_products<bfloat16, 96>(DType::bf16);
  expect_products<bfloat16, 128>(DType::bf16);
  expect_products<float16, 64>(DType::f16);
  expect_products<float16, 160>(DType::f16);
}

/// The accumulators of one product, rounded, are an operand of the next: (X Y^T) Y for one 16 x 16 block each.
template <class T>
__global__ void chain_kernel(const T* x, const T* y, float* to) {
  using Tile = SharedTile<32>;
  __shared__ __align__(128) char tiles[2][16 * Tile::kPitch];
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 2 * 16 * 2; i += 32) {
    const int which = i / 32, row = i % 32 / 2, chunk = i % 2;
    copy_async(shared_address(tiles[which]) + Tile::offset(row, chunk), (which == 0 ? x : y) + row * 16 + chunk * 8,
               true);
  }
  commit_copies();
  await_copies<0>();
  __syncwarp();
  std::uint32_t a[4], b[4];
  load_matrices(a, shared_address(tiles[0]) + lane_by_row<Tile>(lane));
  load_matrices(b, shared_address(tiles[1]) + lane_by_column<Tile>(lane));
  float s[2][4] = {};
  mma<T>(s[0], a, b[0], b[1]);
  mma<T>(s[1], a, b[2], b[3]);
  const std::uint32_t p[4] = {pack_pair<T>(s[0][0], s[0][1]), pack_pair<T>(s[0][2], s[0][3]),
                              pack_pair<T>(s[1][0], s[1][1]), pack_pair<T>(s[1][2], s[1][3])};
  load_matrices_transposed(b, shared_address(tiles[1]) + lane_by_row<Tile>(lane));
  float sum[2][4] = {};
  mma<T>(sum[0], p, b[0], b[1]);
  mma<T>(sum[1], p, b[2], b[3]);
  for (int n = 0; n < 2; ++n) {
    for (int i = 0; i < 4; ++i) to[(lane / 4 + i / 2 * 8) * 16 + n * 8 + lane % 4 * 2 + i % 2] = sum[n][i];
  }
}

TEST_F(Mma, AccumulatorsAreAnOperandOfTheNextProduct) {
  // Small enough that the first product's sums are exact in bf16.
  const auto value = [](int row, int column, int seed) { return (row * seed + column * 3 + row * column) % 7 - 3; };
  const auto operand = [&](int seed) {
    std::vector<double> values;
    for (int i = 0; i < 256; ++i) values.push_back(value(i / 16, i % 16, seed));
    return from_vector(values).to(DType::bf16).to(Device::cuda());
  };
  const Tensor x = operand(2), y = operand(5);
  const Tensor to = empty({256}, {DType::f32, Device::cuda()});
  launch("test", chain_kernel<bfloat16>, {.grid = dim3(1), .block = dim3(32)}, stream(),
         static_cast<const bfloat16*>(x.raw().data), static_cast<const bfloat16*>(y.raw().data), to.raw().as<float>());
  const auto got = to.to(Device::cpu()).to_vector<float>();
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      int expected = 0;
      for (int k = 0; k < 16; ++k) {
        int score = 0;
        for (int c = 0; c < 16; ++c) score += value(i, c, 2) * value(k, c, 5);
        expected += score * value(k, j, 5);
      }
      EXPECT_EQ(got[static_cast<std::size_t>(i * 16 + j)], static_cast<float>(expected)) << i << ", " << j;
    }
  }
}

/// A chain of copies in groups: the oldest may be used while the youngest are under way.
__global__ void groups_kernel(const int* from, int* to) {
  __shared__ __align__(16) int slots[3][128];
  const int thread = static_cast<int>(threadIdx.x);
  const auto start = [&](int part) {
    if (thread < 32)
      copy_async(reinterpret_cast<int4*>(slots[part % 3]) + thread,
                 reinterpret_cast<const int4*>(from + part * 128) + thread);
    commit_async();
  };
  start(0);
  start(1);
  for (int part = 0; part < 8; ++part) {
    if (part + 2 < 8) {
      start(part + 2);
    } else {
      commit_async();
    }
    wait_async<2>();
    __syncthreads();
    to[part * 128 + thread] = slots[part % 3][thread];
    __syncthreads();
  }
}

TEST_F(Mma, CopiesArriveInGroups) {
  std::vector<std::int32_t> values;
  for (int i = 0; i < 8 * 128; ++i) values.push_back(i + 1);
  const Tensor from = on_card(values), to = zeros_on_card(8 * 128);
  launch("test", groups_kernel, {.grid = dim3(1), .block = dim3(128)}, stream(), from.raw().as<int>(),
         to.raw().as<int>());
  EXPECT_EQ(on_host(to), values);
}

}  // namespace

}  // namespace trinix::cuda
