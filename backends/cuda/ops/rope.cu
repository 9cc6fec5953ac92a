// Rope. A thread turns the same columns of one or several heads of a token, all of them in flight at once, in accesses
// of 16 bytes. Floor: one read and one write of the turned columns; the tables stay in the caches.
#include <trinix/backends/cuda/index_check.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/rope.h>

namespace trinix::cuda {

namespace {

constexpr int kRopeThreads = 128;

/// The call as the kernel sees it. Strides in elements: batch, token, head, column.
template <class T>
struct RopeCall {
  const T* from;
  T* to;
  std::int64_t from_strides[4];
  std::int64_t to_strides[4];
  const float* cos;
  const float* sin;
  const void* positions;
  bool wide_positions;  ///< i64, not i32
  std::int64_t position_strides[2];
  std::int64_t first_position;
  std::int64_t table;  ///< positions in the tables
  std::int64_t pairs;
  int heads;
  int turned_chunks;  ///< the chunks behind them are copied
  float sign;         ///< of the sines
  std::uint32_t items;
  Divider chunks;
  Divider groups;  ///< of heads
  Divider length;

  __device__ std::int64_t position(std::int64_t batch, std::int64_t token) const {
    if (positions == nullptr) return first_position + token;
    const std::int64_t at = batch * position_strides[0] + token * position_strides[1];
    return wide_positions ? static_cast<const std::int64_t*>(positions)[at]
                          : std::int64_t{static_cast<const std::int32_t*>(positions)[at]};
  }
};

/// kPairs pairs of columns of one head, as whole accesses where kWide. They are held as they came, so that 16-bit
/// values share registers: the fewer there are, the more threads have their columns in flight.
template <class T, RopeLayout kLayout, int kPairs, bool kWide>
class HeadChunk {
 public:
  __device__ void load(const T* head, std::int64_t step, std::int64_t chunk, std::int64_t pairs) {
#pragma unroll
    for (int i = 0; i < kAccesses; ++i) held_[i] = load_vector<kAccess>(head + place(i, step, chunk, pairs));
  }

  __device__ void store(T* head, std::int64_t step, std::int64_t chunk, std::int64_t pairs) const {
#pragma unroll
    for (int i = 0; i < kAccesses; ++i) store_vector(head + place(i, step, chunk, pairs), held_[i]);
  }

  __device__ void turn(const float (&cos)[kPairs], const float (&sin)[kPairs]) {
    keep_narrow();
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      T& first = held_[0].at[kTogether ? 2 * i : i];
      T& second = held_[kAccesses - 1].at[kTogether ? 2 * i + 1 : i];
      using C = compute_t<T>;
      const C a = widen(first);
      const C b = widen(second);
      const C c = cos[i];
      const C s = sin[i];
      first = narrow_to<T>(a * c - b * s);
      second = narrow_to<T>(b * c + a * s);
    }
  }

 private:
  static constexpr bool kHalf = kLayout == RopeLayout::half;
  static constexpr int kAccess = !kWide ? 1 : kHalf ? kPairs : 2 * kPairs;
  static constexpr int kAccesses = 2 * kPairs / kAccess;
  static constexpr bool kTogether = kAccesses == 1;  ///< the values of a pair lie side by side

  __device__ static std::int64_t place(int access, std::int64_t step, std::int64_t chunk, std::int64_t pairs) {
    const std::int64_t column = kHalf ? chunk * kPairs + access * pairs : chunk * 2 * kPairs + access * kAccess;
    return kWide ? column : column * step;
  }

  /// Else the compiler unpacks what is loaded at once, and fills the registers with halves of words.
  __device__ void keep_narrow() {
    if constexpr (sizeof(T) == 2 && kAccess > 1) {
#pragma unroll
      for (int v = 0; v < kAccesses; ++v) {
        auto& words = reinterpret_cast<std::uint32_t(&)[kAccess / 2]>(held_[v]);
#pragma unroll
        for (int i = 0; i < kAccess / 2; ++i) asm volatile("" : "+r"(words[i]));
      }
    }
  }

  Vector<T, kAccess> held_[kAccesses];
};

/// `count` floats in accesses of up to 16 bytes.
template <int kCount>
__device__ void load_floats(const float* from, float (&to)[kCount]) {
  constexpr int kEach = kCount < 4 ? kCount : 4;
#pragma unroll
  for (int i = 0; i < kCount; i += kEach) {
    const auto v = load_vector<kEach>(from + i);
#pragma unroll
    for (int k = 0; k < kEach; ++k) to[i + k] = v.at[k];
  }
}

/// kHeads heads per thread, a group's heads being `groups` apart, so that neighbouring threads have neighbouring heads.
template <class T, RopeLayout kLayout, int kPairs, bool kWide, int kHeads>
__global__ void __launch_bounds__(kRopeThreads, kWide && sizeof(T) == 2 ? 12 : 1) rope_kernel(RopeCall<T> call) {
  const std::uint32_t item = blockIdx.x * kRopeThreads + threadIdx.x;
  if (item >= call.items) return;
  const std::uint32_t in_token = call.chunks.quotient(item);
  const auto chunk = static_cast<int>(item - in_token * call.chunks.divisor);
  const std::uint32_t row = call.groups.quotient(in_token);
  const auto first_head = static_cast<int>(in_token - row * call.groups.divisor);
  const auto head_step = static_cast<int>(call.groups.divisor);
  const std::uint32_t batch = call.length.quotient(row);
  const std::uint32_t token = row - batch * call.length.divisor;
  const T* const from = call.from + batch * call.from_strides[0] + token * call.from_strides[1];
  T* const to = call.to + batch * call.to_strides[0] + token * call.to_strides[1];

  if (chunk >= call.turned_chunks) {
    constexpr int kCopied = kWide ? kPerAccess<T> : 1;
    const std::int64_t column = 2 * call.pairs + std::int64_t{chunk - call.turned_chunks} * kCopied;
#pragma unroll
    for (int u = 0; u < kHeads; ++u) {
      const int head = first_head + u * head_step;
      if (head >= call.heads) return;
      store_vector(to + head * call.to_strides[2] + column * call.to_strides[3],
                   load_vector<kCopied>(from + head * call.from_strides[2] + column * call.from_strides[3]));
    }
    return;
  }

  HeadChunk<T, kLayout, kPairs, kWide> columns[kHeads];
#pragma unroll
  for (int u = 0; u < kHeads; ++u) {
    const int head = first_head + u * head_step;
    if (head < call.heads) {
      columns[u].load(from + head * call.from_strides[2], call.from_strides[3], chunk, call.pairs);
    }
  }
  float cos[kPairs] = {};
  float sin[kPairs] = {};
  const std::int64_t position = call.position(batch, token);
  if (inside(position, call.table)) {
    load_floats(call.cos + position * call.pairs + chunk * kPairs, cos);
    load_floats(call.sin + position * call.pairs + chunk * kPairs, sin);
  }
#pragma unroll
  for (int i = 0; i < kPairs; ++i) sin[i] *= call.sign;
#pragma unroll
  for (int u = 0; u < kHeads; ++u) {
    const int head = first_head + u * head_step;
    if (head >= call.heads) return;
    columns[u].turn(cos, sin);
    columns[u].store(to + head * call.to_strides[2], call.to_strides[3], chunk, call.pairs);
  }
}

/// Whether every head of the view begins at a whole access and its columns lie side by side.
bool is_wide(const View& v, int per_access) {
  if (v.stride(3) != 1 || reinterpret_cast<std::uintptr_t>(v.data) % 16 != 0) return false;
  for (int d = 0; d < 3; ++d) {
    if (v.size(d) > 1 && v.stride(d) % per_access != 0) return false;
  }
  return true;
}

template <class T, RopeLayout kLayout, int kPairs, bool kWide, int kHeads>
void launch_rope(const Rope::Rotation& args, const Stream& stream) {
  const std::int64_t pairs = args.cos.size(1);
  const std::int64_t heads = args.from.size(2);
  const bool in_place = args.from.data == args.to.data;
  const std::int64_t copied = in_place ? 0 : args.from.size(3) - 2 * pairs;
  const std::int64_t turned_chunks = pairs / kPairs;
  const std::int64_t chunks = turned_chunks + copied / (kWide ? kPerAccess<T> : 1);
  const std::int64_t groups = ceil_div(heads, kHeads);
  const std::int64_t items = args.from.size(0) * args.from.size(1) * groups * chunks;
  if (items == 0) return;
  if (items + kRopeThreads >= (std::int64_t{1} << 32)) {
    trinix::detail::fail<ShapeError>("rope", "shape {} is more than one CUDA kernel here can index; split the batch",
                                     args.from.shape);
  }
  RopeCall<T> call{.from = args.from.as<T>(),
                   .to = args.to.as<T>(),
                   .from_strides = {},
                   .to_strides = {},
                   .cos = args.cos.as<float>(),
                   .sin = args.sin.as<float>(),
                   .positions = args.positions.defined ? args.positions.data : nullptr,
                   .wide_positions = args.positions.dtype == DType::i64,
                   .position_strides = {},
                   .first_position = args.first_position,
                   .table = args.cos.size(0),
                   .pairs = pairs,
                   .heads = static_cast<int>(heads),
                   .turned_chunks = static_cast<int>(turned_chunks),
                   .sign = args.inverse ? -1.0F : 1.0F,
                   .items = static_cast<std::uint32_t>(items),
                   .chunks = Divider(static_cast<std::uint32_t>(chunks)),
                   .groups = Divider(static_cast<std::uint32_t>(groups)),
                   .length = Divider(static_cast<std::uint32_t>(args.from.size(1)))};
  for (int d = 0; d < 4; ++d) {
    call.from_strides[d] = args.from.stride(d);
    call.to_strides[d] = args.to.stride(d);
  }
  for (int d = 0; args.positions.defined && d < 2; ++d) call.position_strides[d] = args.positions.stride(d);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(items, kRopeThreads))),
                          .block = dim3(kRopeThreads)};
  launch("rope", rope_kernel<T, kLayout, kPairs, kWide, kHeads>, shape, stream, call);
}

template <class T, RopeLayout kLayout>
void rotate(const Rope::Rotation& args, const Stream& stream) {
  constexpr bool kHalf = kLayout == RopeLayout::half;
  constexpr int kAccess = kPerAccess<T>;
  constexpr int kPairs = kHalf ? kAccess : kAccess / 2;
  // Two accesses in flight per thread, and so few registers that a multiprocessor holds 1536 threads: 48 KB. More
  // heads per thread, which read the tables less often, were slower.
  constexpr int kHeads = kHalf ? 1 : 2;
  const std::int64_t pairs = args.cos.size(1);
  const bool tables_aligned = reinterpret_cast<std::uintptr_t>(args.cos.data) % 16 == 0 &&
                              reinterpret_cast<std::uintptr_t>(args.sin.data) % 16 == 0;
  const bool wide = pairs % kPairs == 0 && (args.from.size(3) - 2 * pairs) % kAccess == 0 && tables_aligned &&
                    is_wide(args.from, kAccess) && is_wide(args.to, kAccess);
  wide ? launch_rope<T, kLayout, kPairs, true, kHeads>(args, stream)
       : launch_rope<T, kLayout, 1, false, 4>(args, stream);
}

void rope_rotate(const Rope::Rotation& args, const Stream& stream) {
  dispatch_floating(args.from.dtype, "rope", [&]<class T>() {
    args.layout == RopeLayout::half ? rotate<T, RopeLayout::half>(args, stream)
                                    : rotate<T, RopeLayout::interleaved>(args, stream);
  });
}

}  // namespace

void register_rope() {
  register_kernel<Rope>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, rope_rotate, rope_rotate});
}

}  // namespace trinix::cuda
