#include <cstring>

#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/copy.h>

namespace trinix::cpu {

namespace {

template <class To, class From>
To convert(From v) {
  if constexpr (std::is_same_v<To, bool>) {
    return v != From(0);
  } else if constexpr (std::is_same_v<To, From>) {
    return v;
  } else if constexpr (std::is_same_v<To, float16> || std::is_same_v<To, bfloat16>) {
    return To(static_cast<float>(v));
  } else if constexpr (std::is_same_v<From, float16> || std::is_same_v<From, bfloat16>) {
    return static_cast<To>(static_cast<float>(v));
  } else {
    return static_cast<To>(v);
  }
}

/// Same bits, any strides.
template <class T>
void move_row(T* to, const T* from, std::int64_t n, std::int64_t to_step, std::int64_t from_step) {
  if (to_step == 1 && from_step == 1) {
    std::memmove(to, from, static_cast<std::size_t>(n) * sizeof(T));
  } else if (to_step == 1 && from_step == 0) {
    const T value = *from;
    for (std::int64_t i = 0; i < n; ++i) to[i] = value;
  } else if (to_step == 1) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = from[i * from_step];
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
  }
}

template <class To, class From>
void convert_row(To* to, const From* from, std::int64_t n, std::int64_t to_step, std::int64_t from_step) {
  if (to_step == 1 && from_step == 1) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) to[i] = convert<To>(from[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_step] = convert<To>(from[i * from_step]);
  }
}

template <class T>
void add_row(T* to, const T* from, std::int64_t n, std::int64_t to_step, std::int64_t from_step) {
  using C = compute_t<T>;
  if (to_step == 1 && from_step == 1) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) to[i] = T(static_cast<C>(to[i]) + static_cast<C>(from[i]));
  } else {
    for (std::int64_t i = 0; i < n; ++i) {
      to[i * to_step] = T(static_cast<C>(to[i * to_step]) + static_cast<C>(from[i * from_step]));
    }
  }
}

/// Side of the tiles of a transposed copy.
constexpr std::int64_t kTile = 32;

/// One tile: `height` x `width` elements. Reading a column and writing a row in one loop would touch a cache line per
/// element on one side, and lines at a distance of a power of two evict each other. So columns are first brought side
/// by side into a buffer, whose odd stride spreads them.
template <class T>
void move_tile(T* to, std::int64_t to_row, const T* from, std::int64_t from_column, std::int64_t height,
               std::int64_t width) {
  constexpr std::int64_t kStride = kTile + 1;
  T tile[kTile * kStride];
  for (std::int64_t x = 0; x < width; ++x) {
    std::memcpy(tile + x * kStride, from + x * from_column, static_cast<std::size_t>(height) * sizeof(T));
  }
  for (std::int64_t y = 0; y < height; ++y) {
    T* row = to + y * to_row;
    for (std::int64_t x = 0; x < width; ++x) row[x] = tile[x * kStride + y];
  }
}

/// Takes copies that are a transposition of the last two merged dims.
template <class T>
bool move_transposed(const Copy::Forward& args, const Walk<2>& w) {
  if (w.rank < 2) return false;
  const auto i = static_cast<std::size_t>(w.rank - 2);
  const auto j = static_cast<std::size_t>(w.rank - 1);
  const std::int64_t from_column = w.strides[1][j];
  if (w.strides[1][i] != 1 || from_column == 0 || w.strides[0][j] != 1 || w.shape[i] < 8 || w.shape[j] < 8) {
    return false;
  }
  const std::int64_t rows = w.shape[i];
  const std::int64_t columns = w.shape[j];
  const std::int64_t row_tiles = (rows + kTile - 1) / kTile;
  const std::int64_t column_tiles = (columns + kTile - 1) / kTile;
  Walk<2> outer = w;  // over the tiles; its innermost dim is not asked for
  outer.shape[i] = row_tiles;
  for (auto& strides : outer.strides) strides[i] *= kTile;
  const std::int64_t tiles = outer.rows() * column_tiles;
  parallel_for(tiles, kGrain / (2 * kTile * kTile), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t r = t / column_tiles;
      const std::int64_t row = r % row_tiles * kTile;
      const std::int64_t column = t % column_tiles * kTile;
      const auto offsets = row_offsets(outer, r);
      move_tile(args.to.as<T>() + offsets[0] + column, w.strides[0][i],
                args.from.as<T>() + offsets[1] + column * from_column, from_column, std::min(kTile, rows - row),
                std::min(kTile, columns - column));
    }
  });
  return true;
}

void copy_forward(const Copy::Forward& args, const Stream&) {
  const Walk<2> w = make_walk<2>({&args.to, &args.from});
  const std::int64_t to_step = w.inner_stride(0);
  const std::int64_t from_step = w.inner_stride(1);
  if (args.accumulate) {
    dispatch_arithmetic(args.to.dtype, "copy", [&]<class T>() {
      for_each_row(w, 1, [&](const auto& offsets, std::int64_t n) {
        add_row(args.to.as<T>() + offsets[0], args.from.as<T>() + offsets[1], n, to_step, from_step);
      });
    });
  } else if (args.to.dtype == args.from.dtype) {
    dispatch_by_size(args.to.dtype, [&]<class T>() {
      if (move_transposed<T>(args, w)) return;
      for_each_row(w, 1, [&](const auto& offsets, std::int64_t n) {
        move_row(args.to.as<T>() + offsets[0], args.from.as<T>() + offsets[1], n, to_step, from_step);
      });
    });
  } else {
    dispatch_all(args.to.dtype, "copy", [&]<class To>() {
      dispatch_all(args.from.dtype, "copy", [&]<class From>() {
        for_each_row(w, 1, [&](const auto& offsets, std::int64_t n) {
          convert_row(args.to.as<To>() + offsets[0], args.from.as<From>() + offsets[1], n, to_step, from_step);
        });
      });
    });
  }
}

}  // namespace

void register_copy() {
  register_kernel<Copy>({.name = "cpu",
                         .kind = Kernel::fused,
                         .device = DeviceType::cpu,
                         .priority = 0,
                         .why_not = nullptr,
                         .forward = copy_forward,
                         .backward = nullptr});
}

}  // namespace trinix::cpu
