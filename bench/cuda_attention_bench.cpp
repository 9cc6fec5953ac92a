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
/// inputs, where a causal call counts half of the full one's 4 B H S^2 D operations, a window the share that it leaves,
/// and a backward 2.5 forwards. bench/peers/torch_gpu.py --only attention_options times the same in PyTorch under the
/// same names.

namespace {

using trinix::Attention;
using trinix::Device;
using trinix::Tensor;

struct Size {
  const char* name;
  std::int64_t batch, length, heads, key_heads, depth;
};

/// What is asked for beside the sizes.
struct Options {
  const char* name;
  bool causal = true;
  std::int64_t window = -1;  ///< keys to the left
  bool slopes = false;
  bool mask = false;  ///< added, (1, 1, S, S), bf16
  double dropout = 0;
};

struct Problem {
  Tensor q, k, v, out, lse, dout, dq, dk, dv, slopes, mask;
  Attention::Forward forward;
  Attention::Backward backward;
  double operations;

  Problem(const Size& s, const Options& options) {
    const auto random = [&](std::int64_t heads) {
      return trinix::randn({s.batch, s.length, heads, s.depth}).to(trinix::DType::bf16).to(Device::cuda());
    };
    q = random(s.heads), k = random(s.key_heads), v = random(s.key_heads), dout = random(s.heads);
    const auto like = [&](const Tensor& t) { return trinix::empty(t.shape(), {t.dtype(), t.device()}); };
    out = like(q), dq = like(q), dk = like(k), dv = like(v);
    lse = trinix::empty({s.batch, s.heads, s.length}, {trinix::DType::f32, Device::cuda()});
    Attention::Inputs in{.q = q.raw(),
                         .k = k.raw(),
                         .v = v.raw(),
                         .scale = 1 / std::sqrt(static_cast<double>(s.depth)),
                         .causal = options.causal,
                         .window_left = options.window,
                         .dropout = options.dropout,
                         .random = {.seed = 1}};
    if (options.slopes) {
      slopes = trinix::full({1, s.heads}, 0.1, {trinix::DType::f32, Device::cuda()}).expand({s.batch, s.heads});
      in.alibi = slopes.raw();
    }
    if (options.mask) {
      const trinix::Shape shape{s.batch, s.heads, s.length, s.length};
      mask = trinix::randn({1, 1, s.length, s.length}).to(trinix::DType::bf16).to(Device::cuda()).expand(shape);
      in.mask = mask.raw();
    }
    forward = {.in = in, .out = out.raw(), .lse = lse.raw()};
    backward = {.in = in,
                .out = out.raw(),
                .lse = lse.raw(),
                .dout = dout.raw(),
                .dq = dq.raw(),
                .dk = dk.raw(),
                .dv = dv.raw()};
    double share = options.causal ? 0.5 : 1;
    if (options.window >= 0) share = static_cast<double>(options.window) / static_cast<double>(s.length);
    operations = 4.0 * static_cast<double>(s.batch * s.heads * s.length * s.length * s.depth) * share;
  }
};

enum class Direction { forward, backward, deterministic };

void measure(benchmark::State& state, const trinix::Impl<Attention>& impl, const Size& size, const Options& options,
             Direction direction) {
  const Problem problem(size, options);
  const bool forward_only = direction == Direction::forward;
  const char* refusal = impl.why_not == nullptr ? nullptr : impl.why_not(problem.forward, !forward_only);
  if (refusal == nullptr && !forward_only && impl.backward == nullptr) refusal = "has no backward";
  if (refusal != nullptr) return state.SkipWithError(refusal);
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
  static const Size sizes[] = {
      {"D128_S4096_B1_H32", 1, 4096, 32, 32, 128},      {"D64_S2048_B8_H16", 8, 2048, 16, 16, 64},
      {"GPT2_D64_S1024_B32_H12", 32, 1024, 12, 12, 64}, {"D128_S4096_B1_H32_grouped8", 1, 4096, 32, 8, 128},
      {"D96_S2048_B8_H16", 8, 2048, 16, 16, 96},        {"D192_S2048_B4_H16", 4, 2048, 16, 16, 192},
      {"D256_S2048_B4_H16", 4, 2048, 16, 16, 256}};
  static const Options variants[] = {
      {.name = "full", .causal = false},    {.name = "causal"},
      {.name = "window512", .window = 512}, {.name = "alibi", .slopes = true},
      {.name = "dropout", .dropout = 0.1},  {.name = "mask", .causal = false, .mask = true}};
  static const char* const names[] = {"forward", "backward", "backward_deterministic"};
  for (const auto& impl : trinix::KernelTable<Attention>::instance().impls(trinix::DeviceType::cuda)) {
    for (const Size& size : sizes) {
      for (const Options& options : variants) {
        for (const Direction direction : {Direction::forward, Direction::backward, Direction::deterministic}) {
          const std::string name =
              std::string(impl.name) + "/" + size.name + "/" + options.name + "/" + names[static_cast<int>(direction)];
          benchmark::RegisterBenchmark(name.c_str(),
                                       [&impl, &size, &options, direction](benchmark::State& state) {
                                         measure(state, impl, size, options, direction);
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
