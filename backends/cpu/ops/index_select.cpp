#include <cstring>

#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/index.h>
#include <trinix/core/ops/index_select.h>

namespace trinix::cpu {

namespace {

template <class T>
void copy_piece(T* to, const T* from, std::int64_t n, std::int64_t to_step, std::int64_t from_step) {
  if (to_step == 1 && from_step == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
  } else {
    for (std::int64_t c = 0; c < n; ++c) to[c * to_step] = from[c * from_step];
  }
}

/// The slices in order, each copied row by row of its own dims.
template <class T, class Index>
void select_slices(const IndexSelect::Forward& args, const Walk<2>& slice) {
  const Index* index = args.index.as<Index>();
  const std::int64_t index_step = args.index.stride(0);
  const std::int64_t rows = slice.rows();
  const std::int64_t inner = slice.inner();
  const std::int64_t out_step = args.out.stride(args.dim);
  const std::int64_t x_step = args.x.stride(args.dim);
  const std::int64_t grain = std::max<std::int64_t>(kGrain / inner, 1);
  // A slice that is one row moves as a whole; otherwise rows come first, so that index runs along memory.
  parallel_for(rows * args.index.size(0), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end;) {
      const std::int64_t row = k / args.index.size(0);
      const auto offsets = row_offsets(slice, row);
      const std::int64_t stop = std::min(end, (row + 1) * args.index.size(0));
      T* to = args.out.as<T>() + offsets[0];
      const T* from = args.x.as<T>() + offsets[1];
      for (std::int64_t i = k - row * args.index.size(0); k < stop; ++i, ++k) {
        const std::int64_t at = index[i * index_step];
        copy_piece(to + i * out_step, from + at * x_step, inner, slice.inner_stride(0), slice.inner_stride(1));
      }
    }
  });
}

/// Along the innermost dim there are no slices worth the name: every element is picked by itself.
template <class T, class Index>
void select_elements(const IndexSelect::Forward& args, const Walk<2>& lines) {
  const Index* index = args.index.as<Index>();
  const std::int64_t n = args.index.size(0);
  const std::int64_t index_step = args.index.stride(0);
  const std::int64_t out_step = args.out.stride(args.dim);
  const std::int64_t x_step = args.x.stride(args.dim);
  parallel_for(lines.rows() * lines.inner() * n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end;) {
      const std::int64_t line = k / n;
      const std::int64_t first = k - line * n;
      const std::int64_t last = std::min(n, first + end - k);
      for_each_piece(lines, line, 1, [&](const auto& offsets, std::int64_t, std::int64_t) {
        T* to = args.out.as<T>() + offsets[0];
        const T* from = args.x.as<T>() + offsets[1];
        for (std::int64_t i = first; i < last; ++i) to[i * out_step] = from[index[i * index_step] * x_step];
      });
      k += last - first;
    }
  });
}

void index_select_forward(const IndexSelect::Forward& args, const Stream&) {
  if (args.out.numel() == 0) return;
  const View out = without_dim(args.out, args.dim);
  const View x = without_dim(args.x, args.dim);
  const Walk<2> others = make_walk<2>({&out, &x});
  dispatch_by_size(args.out.dtype, [&]<class T>() {
    dispatch_index(args.index, [&]<class Index>() {
      if (args.dim == args.out.rank() - 1) {
        select_elements<T, Index>(args, others);
      } else {
        select_slices<T, Index>(args, others);
      }
    });
  });
}

}  // namespace

void register_index_select() {
  register_kernel<IndexSelect>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, index_select_forward, nullptr});
}

}  // namespace trinix::cpu
