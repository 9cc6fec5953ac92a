#include <cmath>
#include <vector>

#include <trinix/backends/cpu/pieces.h>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/grad_norm.h>

namespace trinix::cpu {

namespace {

template <class T>
double sum_of_squares(const T* x, std::int64_t n) {
  constexpr int kLanes = 32;  // four vectors of doubles, whose additions overlap
  double lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int j = 0; j < kLanes; ++j) {
      const auto value = static_cast<double>(static_cast<compute_t<T>>(x[i + j]));
      lanes[j] += value * value;
    }
  }
  double sum = 0;
  for (; i < n; ++i) {
    const auto value = static_cast<double>(static_cast<compute_t<T>>(x[i]));
    sum += value * value;
  }
  for (const double lane : lanes) sum += lane;
  return sum;
}

void grad_norm_forward(const GradNorm::Forward& args, const Stream&) {
  for (const Flat& t : args.tensors) dispatch_floating(t.dtype, "grad_norm", []<class T>() {});

  const Pieces pieces(args.tensors.size(), [&](std::size_t i) { return args.tensors[i].count; });
  std::vector<double> sums(static_cast<std::size_t>(pieces.count()));
  pieces.for_each(1, [&](std::int64_t piece, std::size_t i, std::int64_t begin, std::int64_t end) {
    const Flat& t = args.tensors[i];
    sums[static_cast<std::size_t>(piece)] = dispatch_floating(
        t.dtype, "grad_norm", [&]<class T>() { return sum_of_squares(t.as<T>() + begin, end - begin); });
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  *args.out.as<double>() = std::sqrt(total);
}

}  // namespace

void register_grad_norm() {
  register_kernel<GradNorm>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, grad_norm_forward, nullptr});
}

}  // namespace trinix::cpu
