#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/index.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/check_index.h>

namespace trinix::cpu {

namespace {

template <class Index>
bool all_inside(const Index* index, std::int64_t n, std::int64_t step, std::int64_t size) {
  // Negative numbers are huge when unsigned, so one comparison tests both ends.
  const auto limit = static_cast<std::uint64_t>(size);
  bool inside = true;
  if (step == 1) {
#pragma omp simd reduction(& : inside)
    for (std::int64_t i = 0; i < n; ++i) inside &= static_cast<std::uint64_t>(std::int64_t{index[i]}) < limit;
  } else {
    for (std::int64_t i = 0; i < n; ++i) inside &= static_cast<std::uint64_t>(std::int64_t{index[i * step]}) < limit;
  }
  return inside;
}

/// On the calling thread: a check must be able to throw, and reading indices is a small part of any work done with
/// them.
template <class Index>
void check(const CheckIndex::Forward& args) {
  const Walk<1> w = make_walk<1>({&args.index});
  if (args.index.numel() == 0) return;
  const std::int64_t step = w.inner_stride(0);
  for (std::int64_t row = 0; row < w.rows(); ++row) {
    const Index* index = args.index.as<Index>() + row_offsets(w, row)[0];
    if (all_inside(index, w.inner(), step, args.size)) continue;
    for (std::int64_t i = 0;; ++i) {
      const std::int64_t value = index[i * step];
      if (value >= 0 && value < args.size) continue;
      trinix::detail::fail<IndexError>(args.op, "index {} at position {} is out of range for {} {}", value,
                                       row * w.inner() + i, args.size, args.what);
    }
  }
}

void check_index_forward(const CheckIndex::Forward& args, const Stream&) {
  dispatch_index(args.index, [&]<class Index>() { check<Index>(args); });
}

}  // namespace

void register_check_index() {
  register_kernel<CheckIndex>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, check_index_forward, nullptr});
}

}  // namespace trinix::cpu
