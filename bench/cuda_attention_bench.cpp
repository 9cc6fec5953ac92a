#include <algorithm>
#include <benchmark/benchmark.h>
#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include <trinix/core/backend.h>
#include <trinix/core/deterministic.h>
#include <trinix/core/kernel.h>
#include <trinix/core/ops/attention.h>
#include <trinix/trinix.h>

/// @file
/// Every attention kernel of the card, forward and backward, without the graph around it: median TFLOP/s over random
/// inputs, where a causal call counts half of the full one's 4 B H S^2 D operations and a backward 2.5 forwards.

namespace {

using trinix::Attention;
using trinix::Device;
using trinix::Tensor;

struct Size {
  const char* name;
  std::int64_t batch, length, heads, depth;
};

struct Problem {
  Tensor q, k, v, out, lse, dout, dq, dk, dv;
  Attention::Forward forward;
  Attention::Backward backward;
  double operations;

  Problem(const Size& s, bool causal) {
    const trinix::Shape shape{s.batch, s.length, s.heads, s.depth};
    const auto random = [&] { return trinix::randn(shape).to(trinix::DType::bf16).to(Device::cuda()); };
    q = random(), k = random(), v = random(), dout = random();
    const auto like = [&](const Tensor& t) { return trinix::empty(t.shape(), {t.dtype(), t.device()}); };
    out = like(q), dq = like(q), dk = like(k), dv = like(v);
    lse = trinix::empty({s.batch, s.heads, s.length}, {trinix::DType::f32, Device::cuda()});
    const Attention::Inputs in{.q = q.raw(),
                               .k = k.raw(),
                               .v = v.raw(),
                               .scale = 1 / std::sqrt(static_cast<double>(s.depth)),
                               .causal = causal};
    forward = {.in = in, .out = out.raw(), .lse = lse.raw()};
    backward = {.in = in,
                .out = out.raw(),
                .lse = lse.raw(),
                .dout = dout.raw(),
                .dq = dq.raw(),
                .dk = dk.raw(),
                .dv = dv.raw()};
    operations = 4.0 * static_cast<double>(s.batch * s.heads * s.length * s.length * s.depth) * (causal ? 0.5 : 1);
  }
};

enum class Direction { forward, backward, deterministic };

void measure(benchmark::State& state, const trinix::Impl<Attention>& impl, const Size& size, bool causal,
             Direction direction) {
  const Problem problem(size, causal);
  const trinix::Stream stream = trinix::stream_of(Device::cuda());
  trinix::set_deterministic(direction == Direction::deterministic);
  impl.forward(problem.forward, stream);
  constexpr int kCalls = 10;  // queued together, so that the queue never runs dry
  std::vector<double> seconds;
  for (auto _ : state) {
    trinix::synchronize(Device::cuda());
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) {
      if (direction == Direction::forward) {
        impl.forward(problem.forward, stream);
      } else {
        impl.backward(problem.backward, stream);
      }
    }
    trinix::synchronize(Device::cuda());
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kCalls);
    state.SetIterationTime(seconds.back() * kCalls);
  }
  trinix::set_deterministic(false);
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2), seconds.end());
  const double median = seconds[seconds.size() / 2];
  state.counters["us"] = median * 1e6;
  state.counters["TFLOP/s"] = problem.operations * (direction == Direction::forward ? 1 : 2.5) / median * 1e-12;
}

[[maybe_unused]] const bool registered = [] {
  trinix::initialize();
  if (!trinix::is_available(Device::cuda())) return false;
  static const Size sizes[] = {{"D128_S4096_B1_H32", 1, 4096, 32, 128},
                               {"D64_S2048_B8_H16", 8, 2048, 16, 64},
                               {"GPT2_D64_S1024_B32_H12", 32, 1024, 12, 64}};
  static const char* const names[] = {"forward", "backward", "backward_deterministic"};
  for (const auto& impl : trinix::KernelTable<Attention>::instance().impls(trinix::DeviceType::cuda)) {
    for (const Size& size : sizes) {
      for (const bool causal : {false, true}) {
        for (const Direction direction : {Direction::forward, Direction::backward, Direction::deterministic}) {
          const std::string name = std::string(impl.name) + "/" + size.name + (causal ? "/causal/" : "/full/") +
                                   names[static_cast<int>(direction)];
          benchmark::RegisterBenchmark(name.c_str(),
                                       [&impl, &size, causal, direction](benchmark::State& state) {
                                         measure(state, impl, size, causal, direction);
                                       })
              ->UseManualTime()
              ->Iterations(10);
        }
      }
    }
  }
  return true;
}();

}  // namespace
