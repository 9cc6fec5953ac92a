#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/copy.h>

namespace trinix::cuda {

namespace {

constexpr int kTile = 32;
constexpr int kTileRows = 8;

/// Both sides of a transposed copy are read and written in rows of 32 through shared memory; the padding column keeps
/// the column reads free of bank conflicts. Floor: bytes read plus bytes written over memory bandwidth.
template <class T>
__global__ void transpose_kernel(const T* from, T* to, std::int64_t rows, std::int64_t columns,
                                 std::int64_t from_column, std::int64_t to_row, std::int64_t from_batch,
                                 std::int64_t to_batch) {
  __shared__ T tile[kTile][kTile + 1];
  from += blockIdx.z * from_batch;
  to += blockIdx.z * to_batch;
  const std::int64_t row0 = static_cast<std::int64_t>(blockIdx.y) * kTile;
  const std::int64_t column0 = static_cast<std::int64_t>(blockIdx.x) * kTile;
  for (int i = threadIdx.y; i < kTile; i += kTileRows) {
    const std::int64_t row = row0 + threadIdx.x;  // contiguous in `from`
    const std::int64_t column = column0 + i;
    if (row < rows && column < columns) tile[threadIdx.x][i] = from[row + column * from_column];
  }
  __syncthreads();
  for (int i = threadIdx.y; i < kTile; i += kTileRows) {
    const std::int64_t row = row0 + i;
    const std::int64_t column = column0 + threadIdx.x;  // contiguous in `to`
    if (row < rows && column < columns) to[row * to_row + column] = tile[i][threadIdx.x];
  }
}

constexpr int kWideTile = 64;
constexpr int kWideThreads = 256;

/// A transposition as the kernels see it: element (row, column) of batch b lies at from[b, row + column * from_column]
/// and goes to to[b, row * to_row + column].
template <class T>
struct Transposition {
  const T* from;
  T* to;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t from_column;
  std::int64_t to_row;
  std::int64_t from_batch;
  std::int64_t to_batch;
};

/// The same in accesses of 16 bytes on both sides, for elements of 2 and 4 bytes. A thread has all of its loads in
/// flight at once. The pitch of the tile, an odd number of words, leaves at most two lanes of a warp on one bank.
template <class T>
__global__ void __launch_bounds__(kWideThreads) transpose_wide_kernel(Transposition<T> t) {
  constexpr int kWide = kPerAccess<T>;
  constexpr int kChunks = kWideTile / kWide;
  constexpr int kEach = kWideTile * kChunks / kWideThreads;
  constexpr int kPitch = kWideTile + 4 / static_cast<int>(sizeof(T));
  __shared__ alignas(16) T tile[kWideTile * kPitch];  // by column of the matrix
  const T* const from = t.from + blockIdx.z * t.from_batch;
  T* const to = t.to + blockIdx.z * t.to_batch;
  const std::int64_t row0 = static_cast<std::int64_t>(blockIdx.y) * kWideTile;
  const std::int64_t column0 = static_cast<std::int64_t>(blockIdx.x) * kWideTile;
  const int chunk = static_cast<int>(threadIdx.x) % kChunks * kWide;
  const int line = static_cast<int>(threadIdx.x) / kChunks;
  constexpr int kLines = kWideThreads / kChunks;
  Vector<T, kWide> v[kEach];
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const std::int64_t row = row0 + chunk;
    const std::int64_t column = column0 + line + e * kLines;
    if (row < t.rows && column < t.columns) v[e] = load_vector<kWide>(from + row + column * t.from_column);
  }
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    // In words: the pitch does not keep 16 bytes aligned.
    constexpr int kPerWord = 4 / static_cast<int>(sizeof(T));
#pragma unroll
    for (int k = 0; k < kWide; k += kPerWord) {
      Vector<T, kPerWord> word;
#pragma unroll
      for (int j = 0; j < kPerWord; ++j) word.at[j] = v[e].at[k + j];
      store_vector(tile + (line + e * kLines) * kPitch + chunk + k, word);
    }
  }
  __syncthreads();
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int row = line + e * kLines;
#pragma unroll
    for (int k = 0; k < kWide; ++k) v[e].at[k] = tile[(chunk + k) * kPitch + row];
    if (row0 + row < t.rows && column0 + chunk < t.columns) {
      store_vector(to + (row0 + row) * t.to_row + column0 + chunk, v[e]);
    }
  }
}

template <class T>
bool fits_wide(const Transposition<T>& t) {
  constexpr int kWide = kPerAccess<T>;
  const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  const std::int64_t counts[] = {t.rows, t.columns, t.from_column, t.to_row, t.from_batch, t.to_batch};
  for (const std::int64_t n : counts) {
    if (n % kWide != 0) return false;
  }
  return aligned(t.from) && aligned(t.to);
}

/// Takes copies that are a transposition of the last two merged dims, with at most one more dim outside.
template <class T>
bool copy_transposed(const Copy::Forward& args, const Stream& stream) {
  const auto w = make_walk<2>({&args.to, &args.from});
  if (w.rank < 2 || w.rank > 3) return false;
  const auto i = static_cast<std::size_t>(w.rank - 2);
  const auto j = static_cast<std::size_t>(w.rank - 1);
  const std::int64_t batch = w.rank == 3 ? w.shape[0] : 1;
  const std::int64_t tile_rows = ceil_div(w.shape[i], kTile);
  if (w.strides[1][i] != 1 || w.strides[0][j] != 1 || batch > 65535 || tile_rows > 65535) return false;
  if (w.strides[1][j] == 0) return false;  // a repeated value
  if constexpr (sizeof(T) == 2 || sizeof(T) == 4) {
    const Transposition<T> t{args.from.as<T>(),
                             args.to.as<T>(),
                             w.shape[i],
                             w.shape[j],
                             w.strides[1][j],
                             w.strides[0][i],
                             w.rank == 3 ? w.strides[1][0] : 0,
                             w.rank == 3 ? w.strides[0][0] : 0};
    if (fits_wide(t)) {
      const LaunchShape wide{
          .grid = dim3(static_cast<unsigned>(ceil_div(t.columns, kWideTile)),
                       static_cast<unsigned>(ceil_div(t.rows, kWideTile)), static_cast<unsigned>(batch)),
          .block = dim3(kWideThreads)};
      launch("copy", transpose_wide_kernel<T>, wide, stream, t);
      return true;
    }
  }
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(w.shape[j], kTile)),
                                       static_cast<unsigned>(tile_rows), static_cast<unsigned>(batch)),
                          .block = dim3(kTile, kTileRows)};
  launch("copy", transpose_kernel<T>, shape, stream, args.from.as<T>(), args.to.as<T>(), w.shape[i], w.shape[j],
         w.strides[1][j], w.strides[0][i], w.rank == 3 ? w.strides[1][0] : 0, w.rank == 3 ? w.strides[0][0] : 0);
  return true;
}

template <class To, class From>
struct Convert {
  __device__ To operator()(From v) const {
    if constexpr (std::is_same_v<To, bool>) {
      return v != From(0);
    } else {
      return static_cast<To>(v);
    }
  }
};

template <class T>
struct Move {
  __device__ T operator()(T v) const { return v; }
};

template <class C>
struct Accumulate {
  __device__ C operator()(C old, C v) const { return old + v; }
};

void copy_forward(const Copy::Forward& args, const Stream& stream) {
  if (args.accumulate) {
    dispatch_arithmetic(args.to.dtype, "copy", [&]<class T>() {
      map<T, T, T>("copy", stream, Accumulate<compute_t<T>>(), {&args.to, &args.to, &args.from});
    });
  } else if (args.to.dtype == args.from.dtype) {
    dispatch_by_size(args.to.dtype, [&]<class T>() {
      if (!copy_transposed<T>(args, stream)) map<T, T>("copy", stream, Move<T>(), {&args.to, &args.from});
    });
  } else {
    dispatch_all(args.to.dtype, "copy", [&]<class To>() {
      dispatch_all(args.from.dtype, "copy", [&]<class From>() {
        map<To, From>("copy", stream, Convert<compute_t<To>, compute_t<From>>(), {&args.to, &args.from});
      });
    });
  }
}

}  // namespace

void register_copy() {
  register_kernel<Copy>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, copy_forward, nullptr});
}

}  // namespace trinix::cuda
