#include <trinix/backends/cpu/lines.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/scan.h>

namespace trinix::cpu {

namespace {

template <class W>
W add(W a, W b) {
  if constexpr (std::is_integral_v<W>) {  // wraps
    return static_cast<W>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  } else {
    return a + b;
  }
}

/// Running sums of one line in place, accumulated in W.
template <class W, class C>
void scan_line(C* x, std::int64_t n, bool reverse) {
  W sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    C& element = x[reverse ? n - 1 - i : i];
    sum = add(sum, static_cast<W>(element));
    element = static_cast<C>(sum);
  }
}

/// The same for `columns` lines side by side.
template <class W, class C>
void scan_columns(C* x, std::int64_t n, std::int64_t columns, bool reverse) {
  W sums[kMostColumns] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    C* row = x + (reverse ? n - 1 - i : i) * columns;
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) {
      sums[c] = add(sums[c], static_cast<W>(row[c]));
      row[c] = static_cast<C>(sums[c]);
    }
  }
}

/// Sums in C, which is f32 or f64 for floating point and i64 for the rest; out is of type To.
template <class To, class From, class C, class W>
void scan(const Scan::Forward& args) {
  const Lines<2> lines = make_lines<2>({&args.x, &args.out}, args.dim);
  for_each_line_block<C>(lines, 1, 4, [&](const auto& offsets, std::int64_t count, C* scratch) {
    const std::int64_t n = lines.length;
    gather_lines(lines, 0, scratch, args.x.as<From>() + offsets[0], count);
    if (lines.columns) {
      scan_columns<W>(scratch, n, count, args.reverse);
    } else {
      for (std::int64_t l = 0; l < count; ++l) scan_line<W>(scratch + l * n, n, args.reverse);
    }
    scatter_lines(lines, 1, args.out.as<To>() + offsets[1], scratch, count);
  });
}

void scan_forward(const Scan::Forward& args, const Stream&) {
  dispatch_all(args.x.dtype, "scan", [&]<class T>() {
    if constexpr (std::is_integral_v<T>) {
      scan<std::int64_t, T, std::int64_t, std::int64_t>(args);
    } else {
      scan<T, T, compute_t<T>, double>(args);
    }
  });
}

}  // namespace

void register_scan() {
  register_kernel<Scan>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, scan_forward, nullptr});
}

}  // namespace trinix::cpu
