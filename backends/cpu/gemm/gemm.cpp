#include <trinix/backends/cpu/gemm/address.h>
#include <trinix/backends/cpu/gemm/blocked.h>
#include <trinix/backends/cpu/gemm/gemm.h>
#include <trinix/backends/cpu/gemm/workspace.h>
#include <trinix/backends/cpu/parallel.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cpu {

namespace {

using namespace internal;

constexpr std::int64_t kSerialFlops = 1 << 20;

void check(const GemmArgs& args) {
  const bool packed = args.packed_b.defined();
  const DType b = packed ? args.packed_b.dtype : args.b.dtype;
  const bool floating = is_floating(args.a.dtype) && is_floating(b) && is_floating(args.c.dtype);
  const int doubles = (args.a.dtype == DType::f64) + (b == DType::f64) + (args.c.dtype == DType::f64);
  if (!floating || (doubles != 0 && doubles != 3)) {
    detail::fail<DtypeError>("gemm",
                             "a product of {} by {} into {}: f32, bf16 and f16 may be mixed, f64 goes with f64 "
                             "only, and integers have no product; convert an operand",
                             args.a.dtype, b, args.c.dtype);
  }
  if (packed && (args.packed_b.rows != args.k || args.packed_b.cols != args.n)) {
    detail::fail<ShapeError>("gemm",
                             "the packed operand is ({}, {}) where ({}, {}) is needed: take the block of it "
                             "that fits",
                             args.packed_b.rows, args.packed_b.cols, args.k, args.n);
  }
}

/// Turned so that few columns become few rows, and a result whose columns are adjacent becomes one whose rows are.
template <class T>
Problem<T> make_problem(const GemmArgs& args) {
  Problem<T> p;
  p.m = args.m;
  p.n = args.n;
  p.k = args.k;
  p.a = {args.a.data, args.a.dtype, args.a.row, args.a.col};
  p.b = {args.b.data, args.b.dtype, args.b.col, args.b.row};
  p.packed_b = args.packed_b;
  p.c = args.c;
  p.alpha = static_cast<T>(args.alpha);
  p.accumulate = args.accumulate;
  p.bias = args.bias;
  if (p.packed_b.defined()) {
    p.b = {};
    return p;
  }
  const bool column_major = p.c.row == 1 && p.c.col != 1 && p.bias == nullptr;
  const bool few_columns = p.n <= kWidth<T> / 2 && p.n < p.m;
  const bool few_rows = p.m <= kWidth<T> / 2;
  if (few_columns || (column_major && !few_rows)) {
    std::swap(p.m, p.n);
    std::swap(p.a, p.b);
    std::swap(p.c.row, p.c.col);
    p.bias_by_row = true;
  }
  if (p.bias == nullptr) p.bias_by_row = false;
  return p;
}

/// C = bias, or 0, or unchanged when accumulating: what an empty sum leaves.
template <class T>
void write_empty_sum(const Problem<T>& p, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t piece = 256;
  for (std::int64_t row = begin; row < end; ++row) {
    for (std::int64_t col = 0; col < p.n; col += piece) {
      T zeros[piece] = {};
      write_tile(p, zeros, piece, row, col, 1, std::min(piece, p.n - col), true);
    }
  }
}

/// Elements of workspace for one thread alone.
template <class T>
std::int64_t serial_elements(const Problem<T>& p) {
  if constexpr (std::is_same_v<T, float>) {
    if (thin_suits(p)) return thin_workspace(p, 1);
  }
  return plan_gemm(p, 1).workspace_elements();
}

template <class T>
void run_serial(const Problem<T>& p, T* workspace) {
  if (p.k == 0) return write_empty_sum(p, 0, p.m);
  if constexpr (std::is_same_v<T, float>) {
    if (thin_suits(p)) return thin(p, 1, workspace);
  }
  run_gemm(p, plan_gemm(p, 1), workspace);
}

/// Few rows: each thread makes columns of its own, without waiting for the others.
template <class T>
void run_by_columns(const Problem<T>& p, int threads) {
  constexpr std::int64_t width = kTileColumns<T>;
  const std::int64_t panels = ceil_div(p.n, width);
  const auto part = [&](int index) {
    return p.columns(panels * index / threads * width, std::min(p.n, panels * (index + 1) / threads * width));
  };
  std::int64_t slice = 0;
  for (int i = 0; i < threads; ++i) slice = std::max(slice, round_up(serial_elements(part(i)), 64));
  T* workspace = static_cast<T*>(thread_workspace(sizeof(T) * slice * threads));
  team(threads, [&](int t, int members) {
    for (int i = t; i < threads; i += members) run_serial(part(i), workspace + t * slice);
  });
}

template <class T>
void run_parallel(const Problem<T>& p) {
  if (p.k == 0) {
    return parallel_for(p.m, std::max<std::int64_t>(1, kGrain / p.n),
                        [&](std::int64_t begin, std::int64_t end) { write_empty_sum(p, begin, end); });
  }
  if constexpr (std::is_same_v<T, float>) {
    if (thin_suits(p)) {
      // Bound by reading B, which is slower than arithmetic by far.
      const int threads = threads_for(p.n * p.k, kGrain);
      return thin(p, threads, static_cast<T*>(thread_workspace(sizeof(T) * thin_workspace(p, threads))));
    }
  }
  const int threads = threads_for(static_cast<std::int64_t>(p.flops()), kSerialFlops);
  if (threads > 1 && p.m <= 4 * Tile::rows && p.n >= threads * kTileColumns<T>) return run_by_columns(p, threads);
  const GemmPlan plan = plan_gemm(p, threads);
  run_gemm(p, plan, static_cast<T*>(thread_workspace(sizeof(T) * plan.workspace_elements())));
}

/// Calls f(T{}) with the type that the product is computed in.
template <class F>
auto with_compute_type(const GemmArgs& args, F&& f) {
  return args.c.dtype == DType::f64 ? f(double{}) : f(float{});
}

struct Strided {
  GemmArgs first;
  GemmBatchStrides strides;
};

GemmArgs strided_product(const void* context, std::int64_t index) {
  const Strided& batch = *static_cast<const Strided*>(context);
  GemmArgs args = batch.first;
  args.a.data = advance(args.a.data, index * batch.strides.a, args.a.dtype);
  args.b.data = advance(args.b.data, index * batch.strides.b, args.b.dtype);
  args.c.data = advance(args.c.data, index * batch.strides.c, args.c.dtype);
  return args;
}

bool empty(const GemmArgs& args) { return args.m <= 0 || args.n <= 0; }

}  // namespace

void gemm(const GemmArgs& args) {
  check(args);
  if (empty(args)) return;
  with_compute_type(args, [&](auto type) { run_parallel(make_problem<decltype(type)>(args)); });
}

void gemm_serial(const GemmArgs& args, void* workspace) {
  check(args);
  if (empty(args)) return;
  with_compute_type(args, [&](auto type) {
    using T = decltype(type);
    const Problem<T> p = make_problem<T>(args);
    if (workspace == nullptr && p.k > 0) workspace = thread_workspace(sizeof(T) * serial_elements(p));
    run_serial(p, static_cast<T*>(workspace));
  });
}

std::size_t gemm_workspace_bytes(const GemmArgs& args) {
  check(args);
  if (empty(args) || args.k == 0) return 0;
  return with_compute_type(args, [&](auto type) -> std::size_t {
    using T = decltype(type);
    return sizeof(T) * serial_elements(make_problem<T>(args));
  });
}

void gemm_batched(const GemmArgs& first, std::int64_t count, const GemmBatchStrides& strides) {
  const Strided batch{first, strides};
  gemm_batched(first, count, strided_product, &batch);
}

void gemm_batched(const GemmArgs& like, std::int64_t count, GemmOfBatch f, const void* context) {
  check(like);
  if (empty(like) || count <= 0) return;
  const double flops = 2.0 * static_cast<double>(like.m) * static_cast<double>(like.n) * like.k;
  const std::int64_t work = std::max(like.m * like.n, static_cast<std::int64_t>(flops) / 32);
  const int threads = threads_for(work * count, kGrain);
  // A product of this size occupies all threads by itself, and its operands share the caches better.
  constexpr double large = 1 << 28;
  if (threads > 1 && (count < threads || (count < 4 * threads && flops > large))) {
    for (std::int64_t i = 0; i < count; ++i) gemm(f(context, i));
    return;
  }
  with_compute_type(like, [&](auto type) {
    using T = decltype(type);
    const Problem<T> p = make_problem<T>(like);
    const std::int64_t slice = p.k > 0 ? round_up(serial_elements(p), 64) : 0;
    T* workspace = static_cast<T*>(thread_workspace(sizeof(T) * slice * threads));
    team(threads, [&](int t, int members) {
      for (std::int64_t i = count * t / members; i < count * (t + 1) / members; ++i) {
        run_serial(make_problem<T>(f(context, i)), workspace + t * slice);
      }
    });
  });
}

std::size_t packed_b_bytes(std::int64_t k, std::int64_t n, DType dtype) {
  if (!is_floating(dtype)) {
    detail::fail<DtypeError>("pack_b", "{} cannot be packed: convert the operand to a floating-point dtype", dtype);
  }
  const std::int64_t columns = dtype == DType::f64 ? kTileColumns<double> : kTileColumns<float>;
  return static_cast<std::size_t>(round_up(std::max<std::int64_t>(n, 0), columns) * k) * size_of(compute_type(dtype));
}

PackedMatrix pack_b(std::int64_t k, std::int64_t n, const GemmMatrix& b, void* buffer) {
  if (!is_floating(b.dtype)) (void)packed_b_bytes(k, n, b.dtype);
  const auto run = [&](auto type) {
    using T = decltype(type);
    constexpr std::int64_t width = kTileColumns<T>;
    const PackSource source{b.data, b.dtype, b.col, b.row};
    pack_panels(source, {0, n, n, 0, k, width, width * k}, static_cast<T*>(buffer));
    return PackedMatrix{buffer, k, n, width, width * k, dtype_of<T>};
  };
  return b.dtype == DType::f64 ? run(double{}) : run(float{});
}

}  // namespace trinix::cpu
