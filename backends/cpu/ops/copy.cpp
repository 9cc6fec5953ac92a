#include <cstring>

#include <trinix/backends/dispatch.h>
#include <trinix/backends/cpu/loops.h>
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

/// A transposed copy would touch one element per cache line of one side; blocks keep both sides in L1.
template <class T>
bool move_transposed(const Copy::Forward& args, const Walk<2>& w) {
  if (w.rank < 2) return false;
  const auto i = static_cast<std::size_t>(w.rank - 2);
  const auto j = static_cast<std::size_t>(w.rank - 1);
  if (w.strides[1][i] != 1 || w.strides[0][j] != 1 || w.shape[i] < 8 || w.shape[j] < 8) return false;
  constexpr std::int64_t kBlock = 32;
  const std::int64_t rows = w.shape[i];
  const std::int64_t columns = w.shape[j];
  const std::int64_t row_blocks = (rows + kBlock - 1) / kBlock;
  Walk<2> outer = w;  // all dims but the last two
  outer.shape[i] = row_blocks;
  outer.strides[0][i] *= kBlock;
  outer.strides[1][i] *= kBlock;
  parallel_for(outer.rows(), std::max<std::int64_t>(kGrain / (kBlock * columns), 1),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t r = begin; r < end; ++r) {
                   const auto offsets = row_offsets(outer, r);
                   const std::int64_t height = std::min(kBlock, rows - r % row_blocks * kBlock);
                   T* to = args.to.as<T>() + offsets[0];
                   const T* from = args.from.as<T>() + offsets[1];
                   for (std::int64_t column = 0; column < columns; column += kBlock) {
                     const std::int64_t last = std::min(columns, column + kBlock);
                     for (std::int64_t y = 0; y < height; ++y) {
                       for (std::int64_t x = column; x < last; ++x) {
                         to[y * w.strides[0][i] + x] = from[y + x * w.strides[1][j]];
                       }
                     }
                   }
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
