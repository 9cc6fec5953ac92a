#include <trinix/backends/cuda/blas/symmetric.h>
#include <trinix/backends/cuda/device/mma.cuh>
#include <trinix/backends/cuda/device/vector.cuh>
#include <trinix/backends/cuda/launch.cuh>

namespace trinix::cuda {

namespace {

constexpr int kTile = 128;     // rows and columns of a block's part of the result
constexpr int kDepth = 64;     // of the sum, at a time
constexpr int kStages = 3;     // of kDepth under way or in use
constexpr int kThreads = 128;  // four warps, each 64 x 64 of the tile
constexpr int kPart = 64;
constexpr int kTileBytes = kTile * kDepth * 2;
constexpr int kStageBytes = 2 * kTileBytes;
static_assert(kStages * kStageBytes >= 2 * kTile * kTile * 2,
              "the result and its transpose take the place of the tiles");

struct Arguments {
  const void* x;
  std::int64_t ld;
  std::int64_t x_stride;
  void* out;
  const void* addend;
  int m;
  int k;
  float alpha;
  float beta;
};

/// A tile's place in the upper triangle of tiles, row by row.
struct Place {
  int row = 0;
  int column = 0;
  __device__ Place(int index, int tiles) {
    while (index >= tiles - row) index -= tiles - row++;
    column = row + index;
  }
};

/// Copies 128 rows of X from `first` on, columns depth .. depth + 63; what lies outside is zero. In shared memory the
/// rows lie as in global memory: 128 of 64, or 64 of 128 when X is stored transposed.
template <class T, bool kTransposed>
__device__ void copy_tile(const Arguments& args, const T* x, int first, int depth, std::uint32_t to) {
  using Tile = SharedTile<kTransposed ? kTile : kDepth>;
  constexpr int kChunks = Tile::kChunks;
#pragma unroll
  for (int i = 0; i < kTile * kDepth / 8 / kThreads; ++i) {
    const int index = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = index / kChunks;
    const int chunk = index % kChunks;
    const int r = (kTransposed ? depth : first) + row;
    const int c = (kTransposed ? first : depth) + chunk * 8;
    const bool there = r < (kTransposed ? args.k : args.m) && c < (kTransposed ? args.m : args.k);
    copy_async(to + Tile::offset(row, chunk), x + (there ? r * args.ld + c : 0), there);
  }
}

/// One step of kDepth: acc += part of the rows of `left` times part of the rows of `right`, transposed.
template <class T, bool kTransposed>
__device__ void multiply_tiles(std::uint32_t left, std::uint32_t right, int first_row, int first_column,
                               float (&acc)[kPart / 16][kPart / 8][4]) {
  using Tile = SharedTile<kTransposed ? kTile : kDepth>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    std::uint32_t a[kPart / 16][4];
    std::uint32_t b[kPart / 16][4];
#pragma unroll
    for (int i = 0; i < kPart / 16; ++i) {
      const int row = first_row + i * 16;
      const int column = first_column + i * 16;
      if constexpr (kTransposed) {
        load_matrices_transposed(a[i], left + Tile::offset(k + lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2));
        load_matrices_transposed(b[i], right + Tile::offset(k + lane % 16, column / 8 + lane / 16));
      } else {
        load_matrices(a[i], left + Tile::offset(row + lane % 16, k / 8 + lane / 16));
        load_matrices(b[i], right + Tile::offset(column + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2));
      }
    }
#pragma unroll
    for (int i = 0; i < kPart / 16; ++i) {
#pragma unroll
      for (int j = 0; j < kPart / 8; ++j) mma<T>(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }
}

/// An 8 x 8 matrix of 16-bit elements, spread over the lanes as mma.sync has it, transposed.
__device__ inline std::uint32_t transpose_matrix(std::uint32_t x) {
  std::uint32_t y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

__device__ inline void store_shared(std::uint32_t address, std::uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

/// A tile of the result from shared to global memory; what lies outside of the matrix is left out.
template <class T>
__device__ void write_tile(const Arguments& args, T* out, const unsigned char* tile, int first_row, int first_column) {
  using Tile = SharedTile<kTile>;
  for (int index = static_cast<int>(threadIdx.x); index < kTile * Tile::kChunks; index += kThreads) {
    const int row = index / Tile::kChunks;
    const int chunk = index % Tile::kChunks;
    const int r = first_row + row;
    const int c = first_column + chunk * 8;
    if (r >= args.m || c >= args.m) continue;
    const auto value = *reinterpret_cast<const uint4*>(tile + Tile::offset(row, chunk));
    *reinterpret_cast<uint4*>(out + static_cast<std::int64_t>(r) * args.m + c) = value;
  }
}

/// One block per tile on or above the diagonal, which it also writes transposed below. Tensor cores are the bound: 36
/// tiles of a 768 x 768 result become 21.
template <class T, bool kTransposed>
__global__ void __launch_bounds__(kThreads, 2) symmetric_kernel(Arguments args) {
  extern __shared__ __align__(128) unsigned char shared[];
  const int tiles = (args.m + kTile - 1) / kTile;
  const Place place(static_cast<int>(blockIdx.x), tiles);
  const int first_row = place.row * kTile;
  const int first_column = place.column * kTile;
  const bool diagonal = place.row == place.column;
  const std::int64_t matrix = blockIdx.y;
  const T* const x = static_cast<const T*>(args.x) + matrix * args.x_stride;
  const std::uint32_t base = shared_address(shared);

  const int steps = (args.k + kDepth - 1) / kDepth;
  const auto copy_stage = [&](int step) {
    if (step < steps) {
      const std::uint32_t to = base + static_cast<std::uint32_t>(step % kStages * kStageBytes);
      copy_tile<T, kTransposed>(args, x, first_row, step * kDepth, to);
      if (!diagonal) copy_tile<T, kTransposed>(args, x, first_column, step * kDepth, to + kTileBytes);
    }
    commit_copies();
  };
  for (int s = 0; s < kStages - 1; ++s) copy_stage(s);

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_row = warp / 2 * kPart;
  const int warp_column = warp % 2 * kPart;
  float acc[kPart / 16][kPart / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    await_copies<kStages - 2>();
    __syncthreads();
    copy_stage(step + kStages - 1);
    const std::uint32_t left = base + static_cast<std::uint32_t>(step % kStages * kStageBytes);
    multiply_tiles<T, kTransposed>(left, diagonal ? left : left + kTileBytes, warp_row, warp_column, acc);
  }
  await_copies<0>();
  __syncthreads();

  using Tile = SharedTile<kTile>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int t = lane % 4;
  const std::uint32_t mirrored = base + kTile * kTile * 2;
  const T* const addend = static_cast<const T*>(args.addend) + matrix * args.m * args.m;
#pragma unroll
  for (int i = 0; i < kPart / 16; ++i) {
#pragma unroll
    for (int j = 0; j < kPart / 8; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp_row + i * 16 + half * 8;  // of an 8 x 8 matrix
        const int column = warp_column + j * 8;
        float low = acc[i][j][half * 2] * args.alpha;
        float high = acc[i][j][half * 2 + 1] * args.alpha;
        const int r = first_row + row + g;
        const int c = first_column + column + 2 * t;
        if (args.addend != nullptr && r < args.m && c < args.m) {
          const auto pair = *reinterpret_cast<const std::uint32_t*>(addend + static_cast<std::int64_t>(r) * args.m + c);
          low += args.beta * widen(T::from_bits(static_cast<std::uint16_t>(pair)));
          high += args.beta * widen(T::from_bits(static_cast<std::uint16_t>(pair >> 16)));
        }
        const std::uint32_t value = pack_pair<T>(low, high);
        store_shared(base + Tile::offset(row + g, column / 8) + static_cast<std::uint32_t>(t * 4), value);
        if (diagonal) continue;
        store_shared(mirrored + Tile::offset(column + g, row / 8) + static_cast<std::uint32_t>(t * 4),
                     transpose_matrix(value));
      }
    }
  }
  __syncthreads();
  T* const out = static_cast<T*>(args.out) + matrix * args.m * args.m;
  write_tile(args, out, shared, first_row, first_column);
  if (!diagonal) write_tile(args, out, shared + kTile * kTile * 2, first_column, first_row);
}

template <class T>
void launch_symmetric(const SymmetricProduct& p, const Stream& stream) {
  const std::int64_t tiles = ceil_div(p.m, kTile);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(tiles * (tiles + 1) / 2), static_cast<unsigned>(p.batch)),
                          .block = dim3(kThreads),
                          .shared_bytes = kStages * kStageBytes};
  const Arguments args{.x = p.x.data,
                       .ld = p.x.ld,
                       .x_stride = p.x.batch_stride,
                       .out = p.out,
                       .addend = p.addend,
                       .m = static_cast<int>(p.m),
                       .k = static_cast<int>(p.k),
                       .alpha = static_cast<float>(p.alpha),
                       .beta = static_cast<float>(p.beta)};
  if (p.x.transposed) {
    launch("symmetric_product", symmetric_kernel<T, true>, shape, stream, args);
  } else {
    launch("symmetric_product", symmetric_kernel<T, false>, shape, stream, args);
  }
}

}  // namespace

bool takes_symmetric(const SymmetricProduct& p) {
  const auto aligned = [](const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; };
  constexpr std::int64_t kMostMatrices = 65535;
  constexpr std::int64_t kLargest = std::int64_t{1} << 20;  // indices are 32 bits wide
  const std::int64_t row = p.x.transposed ? p.m : p.k;
  return size_of(p.dtype) == 2 && row % 8 == 0 && p.m % 8 == 0 && p.x.ld % 8 == 0 && p.x.batch_stride % 8 == 0 &&
         aligned(p.x.data) && aligned(p.out) && aligned(p.addend) && p.batch <= kMostMatrices && p.m <= kLargest &&
         p.k <= kLargest;
}

void multiply_symmetric(const SymmetricProduct& product, const Stream& stream) {
  if (product.dtype == DType::bf16) {
    launch_symmetric<bfloat16>(product, stream);
  } else {
    launch_symmetric<float16>(product, stream);
  }
}

}  // namespace trinix::cuda
