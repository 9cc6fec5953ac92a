#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/cpu/scratch.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/index.h>
#include <trinix/core/ops/gather.h>

namespace trinix::cpu {

namespace {

template <class T, class Index>
void gather_elements(const Gather::Forward& args) {
  // x seen in the shape of the result; where in `dim` to read comes from the index, so it does not move along it.
  View x = args.x;
  x.shape = args.out.shape;
  x.strides[args.dim] = 0;
  const std::int64_t jump = args.x.stride(args.dim);
  const Walk<3> w = make_walk<3>({&args.out, &args.index, &x});
  for_each_row(w, 2, [&](const auto& offsets, std::int64_t n) {
    T* out = args.out.as<T>() + offsets[0];
    const Index* index = args.index.as<Index>() + offsets[1];
    const T* from = x.as<T>() + offsets[2];
    const std::int64_t so = w.inner_stride(0), si = w.inner_stride(1), sx = w.inner_stride(2);
    for (std::int64_t i = 0; i < n; ++i) out[i * so] = from[index[i * si] * jump + i * sx];
  });
}

void gather_forward(const Gather::Forward& args, const Stream&) {
  if (args.out.numel() == 0) return;
  dispatch_by_size(args.out.dtype, [&]<class T>() {
    dispatch_index(args.index, [&]<class Index>() { gather_elements<T, Index>(args); });
  });
}

/// The three views of a ScatterAdd without `dim`, which make its lines: what one of them adds to, no other touches.
Walk<3> scatter_lines(const ScatterAdd::Forward& args) {
  View out = without_dim(args.out, args.dim);
  const View index = without_dim(args.index, args.dim);
  const View source = without_dim(args.source, args.dim);
  out.shape = index.shape;
  return make_walk<3>({&out, &index, &source});
}

template <class T>
T wrapping_sum(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  } else {
    return a + b;
  }
}

/// The steps along `dim` of the three views.
struct Steps {
  std::int64_t out, index, source;
};

template <class T, class Index>
void scatter_lines_of(const ScatterAdd::Forward& args, const Walk<3>& lines, Steps along) {
  const std::int64_t n = args.index.size(args.dim);
  const Steps across{lines.inner_stride(0), lines.inner_stride(1), lines.inner_stride(2)};
  const bool dim_is_inner = along.source <= across.source;
  parallel_for(lines.rows() * lines.inner(), std::max<std::int64_t>(kGrain / (2 * n), 1),
               [&](std::int64_t begin, std::int64_t end) {
                 for_each_piece(lines, begin, end - begin, [&](const auto& offsets, std::int64_t, std::int64_t count) {
                   T* out = args.out.as<T>() + offsets[0];
                   const Index* index = args.index.as<Index>() + offsets[1];
                   const T* source = args.source.as<T>() + offsets[2];
                   const auto add = [&](std::int64_t i, std::int64_t c) {
                     T& to = out[index[i * along.index + c * across.index] * along.out + c * across.out];
                     to = wrapping_sum(to, source[i * along.source + c * across.source]);
                   };
                   // Either order adds to each place in the order of i; the one that follows memory is faster.
                   if (dim_is_inner) {
                     for (std::int64_t c = 0; c < count; ++c) {
                       for (std::int64_t i = 0; i < n; ++i) add(i, c);
                     }
                   } else {
                     for (std::int64_t i = 0; i < n; ++i) {
                       for (std::int64_t c = 0; c < count; ++c) add(i, c);
                     }
                   }
                 });
               });
}

/// 16-bit storage: each line is added up in f32 and rounded once.
template <class T, class Index>
void scatter_lines_wide(const ScatterAdd::Forward& args, const Walk<3>& lines, Steps along) {
  const std::int64_t n = args.index.size(args.dim);
  const std::int64_t size = args.out.size(args.dim);
  parallel_for_with_scratch<float>(
      lines.rows() * lines.inner(), kGrain / (2 * (n + size)), size,
      [&](std::int64_t begin, std::int64_t end, float* line) {
        for (std::int64_t r = begin; r < end; ++r) {
          for_each_piece(lines, r, 1, [&](const auto& offsets, std::int64_t, std::int64_t) {
            T* out = args.out.as<T>() + offsets[0];
            const Index* index = args.index.as<Index>() + offsets[1];
            const T* source = args.source.as<T>() + offsets[2];
            for (std::int64_t j = 0; j < size; ++j) line[j] = static_cast<float>(out[j * along.out]);
            for (std::int64_t i = 0; i < n; ++i) {
              line[index[i * along.index]] += static_cast<float>(source[i * along.source]);
            }
            for (std::int64_t j = 0; j < size; ++j) out[j * along.out] = T(line[j]);
          });
        }
      });
}

void scatter_add_forward(const ScatterAdd::Forward& args, const Stream&) {
  if (args.source.numel() == 0) return;
  const Walk<3> lines = scatter_lines(args);
  const Steps along{args.out.stride(args.dim), args.index.stride(args.dim), args.source.stride(args.dim)};
  dispatch_arithmetic(args.out.dtype, "scatter_add", [&]<class T>() {
    dispatch_index(args.index, [&]<class Index>() {
      if constexpr (std::is_same_v<T, compute_t<T>>) {
        scatter_lines_of<T, Index>(args, lines, along);
      } else {
        scatter_lines_wide<T, Index>(args, lines, along);
      }
    });
  });
}

}  // namespace

void register_gather() {
  register_kernel<Gather>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, gather_forward, nullptr});
  register_kernel<ScatterAdd>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, scatter_add_forward, nullptr});
}

}  // namespace trinix::cpu
