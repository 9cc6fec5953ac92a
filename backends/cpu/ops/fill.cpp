#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/fill.h>

namespace trinix::cpu {

namespace {

void fill_forward(const Fill::Forward& args, const Stream&) {
  const Walk<1> w = make_walk<1>({&args.out});
  dispatch_all(args.out.dtype, "fill", [&]<class T>() {
    const T value = args.value.to<T>();
    for_each_row(w, 1, [&](const auto& offsets, std::int64_t n) {
      T* out = args.out.as<T>() + offsets[0];
      const std::int64_t step = w.inner_stride(0);
      if (step == 1) {
        std::fill(out, out + n, value);
      } else {
        for (std::int64_t i = 0; i < n; ++i) out[i * step] = value;
      }
    });
  });
}

void range_forward(const Range::Forward& args, const Stream&) {
  const std::int64_t step = args.out.stride(0);
  dispatch_all(args.out.dtype, "range", [&]<class T>() {
    T* out = args.out.as<T>();
    parallel_for(args.out.size(0), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const bool exact = args.start.kind() == DType::i64 && args.step.kind() == DType::i64;
        out[i * step] =
            exact ? Scalar(args.start.to_int() + i * args.step.to_int()).template to<T>()
                  : Scalar(args.start.to_double() + static_cast<double>(i) * args.step.to_double()).template to<T>();
      }
    });
  });
}

}  // namespace

void register_fill() {
  register_kernel<Fill>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, fill_forward, nullptr});
  register_kernel<Range>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, range_forward, nullptr});
}

}  // namespace trinix::cpu
