#include <algorithm>
#include <array>

#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/cpu/scratch.h>
#include <trinix/backends/cpu/sort_keys.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/index.h>
#include <trinix/core/ops/sort.h>

namespace trinix::cpu {

namespace {

/// Radix sort by the four bytes of the key; the positions are in order already, and each pass is stable. Returns where
/// the result lies: in `entries` or in `other`.
PackedEntry* radix_sort(PackedEntry* entries, PackedEntry* other, std::int64_t n) {
  std::array<std::array<std::int64_t, 256>, 4> counts{};
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::size_t b = 0; b < 4; ++b) ++counts[b][entries[i].word >> (32 + 8 * b) & 0xff];
  }
  for (std::size_t b = 0; b < 4; ++b) {
    std::array<std::int64_t, 256>& count = counts[b];
    if (std::find(count.begin(), count.end(), n) != count.end()) continue;  // the byte is the same in all
    std::int64_t begin = 0;
    for (std::int64_t& c : count) begin += std::exchange(c, begin);
    for (std::int64_t i = 0; i < n; ++i) other[count[entries[i].word >> (32 + 8 * b) & 0xff]++] = entries[i];
    std::swap(entries, other);
  }
  return entries;
}

constexpr std::int64_t kRadixFrom = 64;  // below this, counting the buckets costs more than comparing

template <class Entry>
const Entry* sort_entries(Entry* entries, std::int64_t n) {
  if constexpr (std::is_same_v<Entry, PackedEntry>) {
    if (n >= kRadixFrom) return radix_sort(entries, entries + n, n);
  }
  std::sort(entries, entries + n);
  return entries;
}

template <class T>
void sort_lines(const Sort::Forward& args) {
  const View x = without_dim(args.x, args.dim);
  const View values = without_dim(args.values, args.dim);
  const View indices = without_dim(args.indices, args.dim);
  const Walk<3> lines = make_walk<3>({&x, &values, &indices});
  const std::int64_t n = args.x.size(args.dim);
  const std::int64_t sx = args.x.stride(args.dim);
  const std::int64_t sv = args.values.stride(args.dim);
  const std::int64_t si = args.indices.stride(args.dim);
  dispatch_entry<T>(n, [&]<class Entry>() {
    parallel_for_with_scratch<Entry>(lines.rows() * lines.inner(), kGrain / (16 * n), 2 * n,
                                     [&](std::int64_t begin, std::int64_t end, Entry* entries) {
                                       for (std::int64_t line = begin; line < end; ++line) {
                                         for_each_piece(
                                             lines, line, 1, [&](const auto& offsets, std::int64_t, std::int64_t) {
                                               const T* from = args.x.as<T>() + offsets[0];
                                               T* value = args.values.as<T>() + offsets[1];
                                               std::int64_t* index = args.indices.as<std::int64_t>() + offsets[2];
                                               for (std::int64_t i = 0; i < n; ++i)
                                                 entries[i] = make_entry<Entry>(from[i * sx], i, args.descending);
                                               const Entry* sorted = sort_entries(entries, n);
                                               for (std::int64_t i = 0; i < n; ++i) {
                                                 value[i * sv] = from[sorted[i].position() * sx];
                                                 index[i * si] = sorted[i].position();
                                               }
                                             });
                                       }
                                     });
  });
}

void sort_forward(const Sort::Forward& args, const Stream&) {
  if (args.x.numel() == 0) return;
  dispatch_all(args.x.dtype, "sort", [&]<class T>() { sort_lines<T>(args); });
}

/// The k smallest of n entries, in order, in entries[0 .. k). Candidates below the k-th smallest so far are collected
/// and thinned out whenever the buffer is full, so nearly every element costs one comparison.
template <class Entry, class At>
void select_smallest(Entry* entries, std::int64_t capacity, std::int64_t n, std::int64_t k, At entry_at) {
  std::int64_t count = 0;
  bool bounded = false;
  Entry bound{};
  const auto keep_smallest = [&] {
    std::nth_element(entries, entries + (k - 1), entries + count);
    count = k;
    bound = entries[k - 1];
    bounded = true;
  };
  for (std::int64_t i = 0; i < n; ++i) {
    const Entry entry = entry_at(i);
    if (bounded && !(entry < bound)) continue;
    entries[count++] = entry;
    if (count == capacity && capacity > k) keep_smallest();
  }
  if (count > k) keep_smallest();
  std::sort(entries, entries + k);
}

template <class T>
void select_lines(const TopK::Forward& args) {
  const View x = without_dim(args.x, args.dim);
  const View values = without_dim(args.values, args.dim);
  const View indices = without_dim(args.indices, args.dim);
  const Walk<3> lines = make_walk<3>({&x, &values, &indices});
  const std::int64_t n = args.x.size(args.dim);
  const std::int64_t k = args.values.size(args.dim);
  const std::int64_t sx = args.x.stride(args.dim);
  const std::int64_t sv = args.values.stride(args.dim);
  const std::int64_t si = args.indices.stride(args.dim);
  const std::int64_t capacity = std::min(n, std::max<std::int64_t>(4 * k, 1024));
  dispatch_entry<T>(n, [&]<class Entry>() {
    parallel_for_with_scratch<Entry>(
        lines.rows() * lines.inner(), kGrain / (4 * n), capacity,
        [&](std::int64_t begin, std::int64_t end, Entry* entries) {
          for (std::int64_t line = begin; line < end; ++line) {
            for_each_piece(lines, line, 1, [&](const auto& offsets, std::int64_t, std::int64_t) {
              const T* from = args.x.as<T>() + offsets[0];
              T* value = args.values.as<T>() + offsets[1];
              std::int64_t* index = args.indices.as<std::int64_t>() + offsets[2];
              select_smallest(entries, capacity, n, k,
                              [&](std::int64_t i) { return make_entry<Entry>(from[i * sx], i, args.largest); });
              for (std::int64_t i = 0; i < k; ++i) {
                value[i * sv] = from[entries[i].position() * sx];
                index[i * si] = entries[i].position();
              }
            });
          }
        });
  });
}

void topk_forward(const TopK::Forward& args, const Stream&) {
  if (args.values.numel() == 0) return;
  dispatch_all(args.x.dtype, "topk", [&]<class T>() { select_lines<T>(args); });
}

}  // namespace

void register_sort() {
  register_kernel<Sort>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, sort_forward, nullptr});
  register_kernel<TopK>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, topk_forward, nullptr});
}

}  // namespace trinix::cpu
