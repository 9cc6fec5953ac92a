#include <algorithm>
#include <type_traits>

#include <trinix/backends/cpu/gemm/pack.h>

namespace trinix::cpu::internal {

namespace {

/// Steps of the depth that are packed at a time where lanes lie side by side. The next ones are prefetched meanwhile:
/// the hardware does not foresee such walks, and waiting for memory would take longer than the packing.
inline constexpr std::int64_t kPackPiece = 32;

/// Lanes lie side by side: copies rows of vectors. Vector stores run over the end of a row whose width is no multiple
/// of the vector's; the next row then overwrites what they spilled.
template <class T, class S>
void pack_adjacent_lanes(const S* from, std::int64_t depth_stride, std::int64_t lanes, std::int64_t readable,
                         std::int64_t depth, std::int64_t width, T* out) {
  constexpr std::int64_t step = kWidth<T>;
  // Whole vectors that may be read: beyond `lanes` the operand goes on with lanes of the next panel.
  const std::int64_t limit = lanes == width ? readable : lanes;
  for (std::int64_t p = 0; p < depth; ++p, from += depth_stride, out += width) {
    std::int64_t lane = 0;
    __builtin_prefetch(from + kPackPiece * depth_stride);
    if (width > step) __builtin_prefetch(from + kPackPiece * depth_stride + step);
    for (; lane < width && lane + step <= limit; lane += step) store(out + lane, load_as(from + lane, T{}));
    for (; lane < lanes; ++lane) out[lane] = static_cast<T>(from[lane]);
    for (; lane < width; ++lane) out[lane] = T{};
  }
}

/// Steps of the depth lie side by side: transposes squares of vectors.
template <class T, class S>
void pack_adjacent_depth(const S* from, std::int64_t lane_stride, std::int64_t lanes, std::int64_t depth,
                         std::int64_t width, T* out) {
  constexpr int step = kWidth<T>;
  std::int64_t p = 0;
  for (; p + step <= depth; p += step) {
    // From the last lanes to the first, because stores spill into the first lanes of the next row.
    for (std::int64_t first = (width - 1) / step * step; first >= 0; first -= step) {
      const S* source = from + first * lane_stride + p;
      unrolled<step>([&](auto i)
                         __attribute__((always_inline)) { __builtin_prefetch(source + i * lane_stride + 2 * step); });
      Vec<T> square[step];
      if (first + step <= lanes) {
        unrolled<step>([&](auto i)
                           __attribute__((always_inline)) { square[i] = load_as(source + i * lane_stride, T{}); });
      } else {
        unrolled<step>([&](auto i) __attribute__((always_inline)) {
          square[i] = first + i < lanes ? load_as(source + i * lane_stride, T{}) : Vec<T>{};
        });
      }
      transpose<T>(square);
      T* to = out + p * width + first;
      unrolled<step>([&](auto i) __attribute__((always_inline)) { store(to + i * width, square[i]); });
    }
  }
  for (; p < depth; ++p) {
    for (std::int64_t lane = 0; lane < width; ++lane) {
      out[p * width + lane] = lane < lanes ? static_cast<T>(from[lane * lane_stride + p]) : T{};
    }
  }
}

/// Any strides, 0 included.
template <class T, class S>
void pack_strided(const S* from, std::int64_t lane_stride, std::int64_t depth_stride, std::int64_t lanes,
                  std::int64_t depth, std::int64_t width, T* out) {
  for (std::int64_t p = 0; p < depth; ++p, from += depth_stride, out += width) {
    for (std::int64_t lane = 0; lane < lanes; ++lane) out[lane] = static_cast<T>(from[lane * lane_stride]);
    for (std::int64_t lane = lanes; lane < width; ++lane) out[lane] = T{};
  }
}

template <class T, class S>
void pack_panel_of(const PackSource& source, std::int64_t lane, std::int64_t lanes, std::int64_t total_lanes,
                   std::int64_t step, std::int64_t depth, std::int64_t width, T* out) {
  const S* from = static_cast<const S*>(source.data) + lane * source.lane_stride + step * source.depth_stride;
  if (source.lane_stride == 1) {
    pack_adjacent_lanes(from, source.depth_stride, lanes, total_lanes - lane, depth, width, out);
  } else if (source.depth_stride == 1) {
    pack_adjacent_depth(from, source.lane_stride, lanes, depth, width, out);
  } else {
    pack_strided(from, source.lane_stride, source.depth_stride, lanes, depth, width, out);
  }
}

}  // namespace

template <class T>
PackPanel<T> pack_panel_for(DType storage) {
  if constexpr (std::is_same_v<T, double>) {
    return storage == DType::f64 ? pack_panel_of<double, double> : nullptr;
  } else {
    switch (storage) {
      case DType::f32:
        return pack_panel_of<float, float>;
      case DType::bf16:
        return pack_panel_of<float, bfloat16>;
      case DType::f16:
        return pack_panel_of<float, float16>;
      default:
        return nullptr;
    }
  }
}

template <class T>
void pack_panels(const PackSource& source, const PackRegion& r, T* out, std::int64_t part, std::int64_t parts) {
  const PackPanel<T> pack = pack_panel_for<T>(source.dtype);
  const std::int64_t piece = source.lane_stride == 1 ? kPackPiece : 512;
  const std::int64_t panels = (r.lanes + r.width - 1) / r.width;
  const std::int64_t total = panels * ((r.depth + piece - 1) / piece);
  for (std::int64_t u = total * part / parts; u < total * (part + 1) / parts; ++u) {
    const std::int64_t panel = u % panels;
    const std::int64_t step = u / panels * piece;
    pack(source, r.lane + panel * r.width, std::min(r.width, r.lanes - panel * r.width), r.total_lanes, r.step + step,
         std::min(piece, r.depth - step), r.width, out + panel * r.panel_stride + step * r.width);
  }
}

template PackPanel<float> pack_panel_for<float>(DType);
template PackPanel<double> pack_panel_for<double>(DType);
template void pack_panels(const PackSource&, const PackRegion&, float*, std::int64_t, std::int64_t);
template void pack_panels(const PackSource&, const PackRegion&, double*, std::int64_t, std::int64_t);

}  // namespace trinix::cpu::internal
