#include <type_traits>

#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/cuda/radix_sort.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/index.h>
#include <trinix/core/ops/sort.h>

// All lines are sorted at once: a key is the number of the line followed by the value as an unsigned number of the same
// order. Radix sort is stable, which keeps equal values in order of position.

namespace trinix::cuda {

namespace {

constexpr int kThreads = 256;

template <class T>
inline constexpr int kKeyBits = 8 * static_cast<int>(sizeof(T));

/// An unsigned number of kKeyBits<T> that orders as the value does: NaN above everything, -0 with 0.
template <class T>
__device__ std::uint64_t sort_key(T value) {
  constexpr std::uint64_t kMask = ~std::uint64_t{0} >> (64 - kKeyBits<T>);
  constexpr std::uint64_t kSign = std::uint64_t{1} << (kKeyBits<T> - 1);
  if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::uint8_t>) {
    return value;
  } else if constexpr (std::is_integral_v<T>) {
    return (static_cast<std::uint64_t>(value) & kMask) ^ kSign;
  } else {
    const auto wide = widen(value);
    if (wide != wide) return kMask;
    std::uint64_t bits = 0;
    if constexpr (sizeof(T) == 8) {
      bits = static_cast<std::uint64_t>(__double_as_longlong(value));
    } else if constexpr (sizeof(T) == 4) {
      bits = __float_as_uint(value);
    } else {
      bits = value.bits;
    }
    if (wide == 0) bits = 0;
    return (bits & kSign) != 0 ? ~bits & kMask : bits | kSign;
  }
}

/// Views of one shape, walked line after line: 0 input, 1 values, 2 indices, without the sorted dim; and their steps
/// along it.
struct SortGeometry {
  DeviceWalk<3> lines;
  std::int64_t steps[3];
  std::int64_t length;  ///< of an input line
  std::int64_t kept;    ///< of an output line
  Divider by_length;
  Divider by_kept;
};

/// One key per element, the number of its line above the bits of the value if wanted.
template <class K, class T>
__global__ void __launch_bounds__(kThreads)
    sort_keys_kernel(SortGeometry g, const T* x, std::uint32_t count, bool descending, bool with_line, K* keys,
                     std::uint32_t* numbers) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const auto number = static_cast<std::uint32_t>(i);
  const std::uint32_t line = g.by_length.quotient(number);
  std::int64_t at[3];
  g.lines.offsets(line, at);
  std::uint64_t key = sort_key(x[at[0] + (number - line * g.length) * g.steps[0]]);
  if (descending) key ^= ~std::uint64_t{0} >> (64 - kKeyBits<T>);
  if constexpr (kKeyBits<T> < 64) {
    if (with_line) key |= std::uint64_t{line} << kKeyBits<T>;
  }
  keys[i] = static_cast<K>(key);
  numbers[i] = number;
}

/// For elements that are sorted by value already: the line that each belongs to.
template <class K>
__global__ void __launch_bounds__(kThreads)
    line_keys_kernel(Divider by_length, const std::uint32_t* numbers, std::uint32_t count, K* keys) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) keys[i] = by_length.quotient(numbers[i]);
}

/// The first g.kept of every line.
template <class T>
__global__ void __launch_bounds__(kThreads)
    place_sorted_kernel(SortGeometry g, const T* x, const std::uint32_t* numbers, std::uint32_t count, T* values,
                        std::int64_t* indices) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const auto number = static_cast<std::uint32_t>(i);
  const std::uint32_t line = g.by_kept.quotient(number);
  const std::int64_t rank = number - line * g.kept;
  std::int64_t at[3];
  g.lines.offsets(line, at);
  const std::int64_t position = numbers[line * g.length + rank] - line * g.length;
  values[at[1] + rank * g.steps[1]] = x[at[0] + position * g.steps[0]];
  indices[at[2] + rank * g.steps[2]] = position;
}

LaunchShape shape_for(std::int64_t count) {
  return {.grid = dim3(static_cast<unsigned>(ceil_div(count, kThreads))), .block = dim3(kThreads)};
}

/// Sorts the numbers of all elements by line and value.
template <class K, class T>
void sort_numbers(const char* op, const SortGeometry& g, const View& x, bool descending, SortedPairs<K>& pairs,
                  const Stream& stream) {
  const auto count = static_cast<std::uint32_t>(pairs.count());
  const auto lines = static_cast<std::uint64_t>(pairs.count() / g.length);
  const int line_bits = lines > 1 ? bits_for(lines) : 0;
  const bool together = kKeyBits<T> + line_bits <= 8 * static_cast<int>(sizeof(K));
  const LaunchShape shape = shape_for(count);
  launch(op, sort_keys_kernel<K, T>, shape, stream, g, x.as<T>(), count, descending, together && line_bits > 0,
         pairs.keys(), pairs.numbers());
  pairs.sort(kKeyBits<T> + (together ? line_bits : 0), stream);
  if (together) return;
  launch(op, line_keys_kernel<K>, shape, stream, g.by_length, pairs.numbers(), count, pairs.keys());
  pairs.sort(line_bits, stream);
}

/// What both ops do: the first values.size(dim) of every line in order.
void sort_lines(const char* op, const View& x, const View& values, const View& indices, int dim, bool descending,
                const Stream& stream) {
  if (values.numel() == 0) return;
  if (x.numel() >= (std::int64_t{1} << 32)) {
    trinix::detail::fail<ShapeError>(op, "{} elements are more than a CUDA kernel here can sort; split the tensor",
                                     x.numel());
  }
  const View x_lines = without_dim(x, dim), value_lines = without_dim(values, dim),
             index_lines = without_dim(indices, dim);
  SortGeometry g{};
  g.lines = internal::to_device(make_walk<3>({&x_lines, &value_lines, &index_lines}), 1);
  g.steps[0] = x.stride(dim);
  g.steps[1] = values.stride(dim);
  g.steps[2] = indices.stride(dim);
  g.length = x.size(dim);
  g.kept = values.size(dim);
  g.by_length = Divider(static_cast<std::uint32_t>(g.length));
  g.by_kept = Divider(static_cast<std::uint32_t>(g.kept));
  const auto lines = static_cast<std::uint64_t>(x.numel() / g.length);
  dispatch_all(x.dtype, op, [&]<class T>() {
    const auto with_keys = [&]<class K>() {
      SortedPairs<K> pairs(x.numel(), stream);
      sort_numbers<K, T>(op, g, x, descending, pairs, stream);
      const auto count = static_cast<std::uint32_t>(values.numel());
      launch(op, place_sorted_kernel<T>, shape_for(count), stream, g, x.as<T>(), pairs.numbers(), count, values.as<T>(),
             indices.as<std::int64_t>());
    };
    if (kKeyBits<T> <= 32 && kKeyBits<T> + (lines > 1 ? bits_for(lines) : 0) <= 32) {
      with_keys.template operator()<std::uint32_t>();
    } else {
      with_keys.template operator()<std::uint64_t>();
    }
  });
}

void sort_forward(const Sort::Forward& args, const Stream& stream) {
  sort_lines("sort", args.x, args.values, args.indices, args.dim, args.descending, stream);
}

void topk_forward(const TopK::Forward& args, const Stream& stream) {
  sort_lines("topk", args.x, args.values, args.indices, args.dim, args.largest, stream);
}

}  // namespace

void register_sort() {
  register_kernel<Sort>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, sort_forward, nullptr});
  register_kernel<TopK>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, topk_forward, nullptr});
}

}  // namespace trinix::cuda
