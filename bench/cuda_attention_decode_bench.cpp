#include <algorithm>
#include <benchmark/benchmark.h>
#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include <trinix/autograd/step_graph.h>
#include <trinix/core/backend.h>
#include <trinix/core/kernel.h>
#include <trinix/core/ops/attention.h>
#include <trinix/trinix.h>

/// @file
/// Attention of a few queries over a long cache of keys and values, by every kernel of the card that takes it: GB/s of
/// keys and values, each counted once, and their share of the rate of a copy, whose reads and writes both count.
/// bench/peers/torch_gpu.py --only attention_decode times the same in PyTorch.

namespace {

using trinix::Attention;
using trinix::Device;
using trinix::Tensor;

struct Size {
  const char* name;
  std::int64_t batch, queries, keys, heads, key_heads, depth;
  bool slopes = false;
  std::int64_t window = -1;
  bool mask = false;
};

constexpr int kCalls = 20;  ///< timed together

/// Median seconds of one of the kCalls calls that `work` makes.
template <class F>
double median_seconds(benchmark::State& state, F work) {
  for (int i = 0; i < 4; ++i) work();
  std::vector<double> seconds;
  for (auto _ : state) {
    trinix::synchronize(Device::cuda());
    const auto start = std::chrono::steady_clock::now();
    work();
    trinix::synchronize(Device::cuda());
    const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    seconds.push_back(took / kCalls);
    state.SetIterationTime(took);
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

double copy_rate = 0;  // bytes per second, as measured by the first benchmark

void measure_copy(benchmark::State& state) {
  const Tensor from = trinix::full({std::int64_t{1} << 28}, 1.5, {trinix::DType::bf16, Device::cuda()});
  const Tensor to = trinix::empty(from.shape(), {from.dtype(), from.device()});
  const double seconds = median_seconds(state, [&] {
    for (int i = 0; i < kCalls; ++i) to.copy_(from);
  });
  copy_rate = 4.0 * static_cast<double>(from.numel()) / seconds;
  state.counters["GB/s"] = copy_rate * 1e-9;
}

/// @param captured without the host, which takes longer to ask than the card to answer where there is little to read
void measure(benchmark::State& state, const trinix::Impl<Attention>& impl, const Size& s, bool captured) {
  const trinix::NoGrad no_grad;
  const auto random = [&](std::int64_t length, std::int64_t heads) {
    return trinix::randn({s.batch, length, heads, s.depth}, {trinix::DType::f32, Device::cuda()})
        .to(trinix::DType::bf16);
  };
  // Several caches, so that none is still in L2 from the last call.
  const std::int64_t bytes = 4 * s.batch * s.keys * s.key_heads * s.depth;
  const auto sets = static_cast<std::size_t>(std::max<std::int64_t>(2, (std::int64_t{200} << 20) / bytes));
  const Tensor q = random(s.queries, s.heads);
  const Tensor out = trinix::empty(q.shape(), {q.dtype(), q.device()});
  const Tensor lse = trinix::empty({s.batch, s.heads, s.queries}, {trinix::DType::f32, Device::cuda()});
  const Tensor slopes = trinix::full({1, s.heads}, 0.01, {trinix::DType::f32, Device::cuda()});
  const Tensor mask =
      trinix::randn({1, 1, s.queries, s.keys}, {trinix::DType::f32, Device::cuda()}).to(trinix::DType::bf16);
  std::vector<Tensor> caches;
  std::vector<Attention::Forward> calls;
  for (std::size_t i = 0; i < sets; ++i) {
    caches.push_back(random(s.keys, s.key_heads));
    caches.push_back(random(s.keys, s.key_heads));
    Attention::Inputs in{.q = q.raw(),
                         .k = caches[2 * i].raw(),
                         .v = caches[2 * i + 1].raw(),
                         .scale = 1 / std::sqrt(static_cast<double>(s.depth)),
                         .causal = true,
                         .window_left = s.window};
    if (s.slopes) in.alibi = slopes.expand({s.batch, s.heads}).raw();
    if (s.mask) in.mask = mask.expand({s.batch, s.heads, s.queries, s.keys}).raw();
    calls.push_back({.in = in, .out = out.raw(), .lse = lse.raw()});
  }
  if (const char* reason = impl.why_not(calls[0], false)) return state.SkipWithError(reason);
  const auto call_all = [&] {
    for (std::size_t i = 0; i < kCalls; ++i) impl.forward(calls[i % sets], trinix::stream_of(Device::cuda()));
  };
  trinix::StepGraph graph(Device::cuda(), [&](const std::vector<Tensor>&) {
    call_all();
    return std::vector<Tensor>();
  });
  const double seconds = captured ? median_seconds(state, [&] { graph(); }) : median_seconds(state, call_all);
  const double share = s.window < 0 ? 1 : static_cast<double>(s.window + s.queries) / static_cast<double>(s.keys);
  const double rate = static_cast<double>(bytes) * share / seconds;
  state.counters["us"] = seconds * 1e6;
  state.counters["GB/s"] = rate * 1e-9;
  if (copy_rate > 0) state.counters["of_copy"] = rate / copy_rate;
}

[[maybe_unused]] const bool registered = [] {
  trinix::initialize();
  if (!trinix::is_available(Device::cuda())) return false;
  static const Size sizes[] = {{"B16_Q1_S8192_H32_8_D128", 16, 1, 8192, 32, 8, 128},
                               {"B16_Q4_S8192_H32_8_D128", 16, 4, 8192, 32, 8, 128},
                               {"B16_Q16_S8192_H32_8_D128", 16, 16, 8192, 32, 8, 128},
                               {"B1_Q1_S8192_H32_8_D128", 1, 1, 8192, 32, 8, 128},
                               {"B1_Q1_S131072_H32_8_D128", 1, 1, 131072, 32, 8, 128},
                               {"B16_Q1_S8192_H32_1_D128", 16, 1, 8192, 32, 1, 128},
                               {"B16_Q1_S2048_H32_32_D128", 16, 1, 2048, 32, 32, 128},
                               {"B64_Q1_S1024_H12_12_D64", 64, 1, 1024, 12, 12, 64},
                               {"B1_Q1_S1024_H12_12_D64", 1, 1, 1024, 12, 12, 64},
                               {"B1_Q1_S128_H12_12_D64", 1, 1, 128, 12, 12, 64},
                               {"B16_Q1_S4096_H16_4_D256", 16, 1, 4096, 16, 4, 256},
                               {.name = "B16_Q1_S8192_H32_8_D128_alibi",
                                .batch = 16,
                                .queries = 1,
                                .keys = 8192,
                                .heads = 32,
                                .key_heads = 8,
                                .depth = 128,
                                .slopes = true},
                               {.name = "B16_Q1_S8192_H32_8_D128_mask",
                                .batch = 16,
                                .queries = 1,
                                .keys = 8192,
                                .heads = 32,
                                .key_heads = 8,
                                .depth = 128,
                                .mask = true},
                               {.name = "B16_Q1_S8192_H32_8_D128_window1024",
                                .batch = 16,
                                .queries = 1,
                                .keys = 8192,
                                .heads = 32,
                                .key_heads = 8,
                                .depth = 128,
                                .window = 1024}};
  benchmark::RegisterBenchmark("copy_512MB", measure_copy)->UseManualTime()->Iterations(10);
  for (const Size& size : sizes) {
    for (const auto& impl : trinix::KernelTable<Attention>::instance().impls(trinix::DeviceType::cuda)) {
      for (const bool captured : {true, false}) {
        const std::string name = std::string(size.name) + "/" + impl.name + (captured ? "/captured" : "/eager");
        benchmark::RegisterBenchmark(
            name.c_str(), [&impl, &size, captured](benchmark::State& state) { measure(state, impl, size, captured); })
            ->UseManualTime()
            ->Iterations(10);
      }
    }
  }
  return true;
}();

}  // namespace
