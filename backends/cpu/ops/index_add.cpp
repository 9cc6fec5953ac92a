#include <algorithm>
#include <numeric>
#include <vector>

#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/index.h>
#include <trinix/core/ops/index_select.h>

namespace trinix::cpu {

namespace {

/// The positions of an index sorted by where they lead. Positions with one destination stay in order.
struct Groups {
  std::vector<std::int64_t> positions;
  std::vector<std::int64_t> destinations;  ///< one per group, ascending
  std::vector<std::int64_t> begins;        ///< first position of each group, and the end of the last
};

template <class Index>
std::vector<std::int64_t> sorted_positions(const Index* index, std::int64_t n, std::int64_t step, std::int64_t size) {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(n));
  if (size > 4 * n + 65536) {  // few indices into much: counting every destination would cost more than sorting
    std::iota(positions.begin(), positions.end(), std::int64_t{0});
    std::stable_sort(positions.begin(), positions.end(),
                     [&](std::int64_t a, std::int64_t b) { return index[a * step] < index[b * step]; });
    return positions;
  }
  std::vector<std::int64_t> next(static_cast<std::size_t>(size) + 1, 0);
  for (std::int64_t i = 0; i < n; ++i) ++next[static_cast<std::size_t>(index[i * step]) + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  for (std::int64_t i = 0; i < n; ++i) {
    positions[static_cast<std::size_t>(next[static_cast<std::size_t>(index[i * step])]++)] = i;
  }
  return positions;
}

template <class Index>
Groups group_by_destination(const View& view, std::int64_t size) {
  const Index* index = view.as<Index>();
  const std::int64_t n = view.size(0);
  const std::int64_t step = view.stride(0);
  Groups groups{sorted_positions(index, n, step, size), {}, {}};
  for (std::int64_t k = 0; k < n; ++k) {
    const std::int64_t to = index[groups.positions[static_cast<std::size_t>(k)] * step];
    if (!groups.destinations.empty() && groups.destinations.back() == to) continue;
    groups.destinations.push_back(to);
    groups.begins.push_back(k);
  }
  groups.begins.push_back(n);
  return groups;
}

/// Unsigned for integers, whose overflow wraps.
template <class T>
using Accumulator = typename std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>, compute_of<T>>::type;

constexpr std::int64_t kColumns = 256;

/// Sums the sources of one group over up to kColumns columns, and adds the sum to the destination.
template <class T>
void add_group(T* to, std::int64_t to_step, const T* from, std::int64_t from_step, std::int64_t slice_step,
               const std::int64_t* positions, std::int64_t count, std::int64_t columns) {
  using A = Accumulator<T>;
  A sum[kColumns] = {};
  for (std::int64_t k = 0; k < count; ++k) {
    const T* source = from + positions[k] * slice_step;
    if (from_step == 1) {
#pragma omp simd
      for (std::int64_t c = 0; c < columns; ++c) sum[c] += static_cast<A>(source[c]);
    } else {
      for (std::int64_t c = 0; c < columns; ++c) sum[c] += static_cast<A>(source[c * from_step]);
    }
  }
  for (std::int64_t c = 0; c < columns; ++c) {
    to[c * to_step] = static_cast<T>(static_cast<A>(to[c * to_step]) + sum[c]);
  }
}

/// Work is split by column first and by destination second: whichever thread has a place adds to it in the same order.
template <class T>
void add_all(const IndexAdd::Forward& args, const Walk<2>& slice, const Groups& groups) {
  const std::int64_t inner = slice.inner();
  const std::int64_t work = slice.rows() * inner * args.index.size(0);
  const std::int64_t fewest = (inner + kColumns - 1) / kColumns;
  const std::int64_t most = std::max((inner + 15) / 16, fewest);
  const std::int64_t wanted = std::clamp<std::int64_t>(threads_for(work, kGrain), fewest, most);
  const std::int64_t width = std::min(((inner + wanted - 1) / wanted + 15) / 16 * 16, kColumns);
  const std::int64_t chunks = (inner + width - 1) / width;
  const auto count = static_cast<std::int64_t>(groups.destinations.size());
  const std::int64_t units = slice.rows() * chunks * count;
  parallel_for(units, kGrain * units / std::max<std::int64_t>(work, 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t u = begin; u < end; ++u) {
      const auto group = static_cast<std::size_t>(u % count);
      const std::int64_t column = u / count % chunks * width;
      const auto offsets = row_offsets(slice, u / count / chunks);
      const std::int64_t to_step = slice.inner_stride(0);
      const std::int64_t from_step = slice.inner_stride(1);
      T* to = args.out.as<T>() + offsets[0] + column * to_step + groups.destinations[group] * args.out.stride(args.dim);
      const T* from = args.source.as<T>() + offsets[1] + column * from_step;
      add_group(to, to_step, from, from_step, args.source.stride(args.dim),
                groups.positions.data() + groups.begins[group], groups.begins[group + 1] - groups.begins[group],
                std::min(width, inner - column));
    }
  });
}

void index_add_forward(const IndexAdd::Forward& args, const Stream&) {
  if (args.source.numel() == 0) return;
  const View out = without_dim(args.out, args.dim);
  const View source = without_dim(args.source, args.dim);
  const Walk<2> slice = make_walk<2>({&out, &source});
  const Groups groups = dispatch_index(
      args.index, [&]<class Index>() { return group_by_destination<Index>(args.index, args.out.size(args.dim)); });
  dispatch_arithmetic(args.out.dtype, "index_add", [&]<class T>() { add_all<T>(args, slice, groups); });
}

}  // namespace

void register_index_add() {
  register_kernel<IndexAdd>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, index_add_forward, nullptr});
}

}  // namespace trinix::cpu
