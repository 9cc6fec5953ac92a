#include <algorithm>
#include <benchmark/benchmark.h>
#include <chrono>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <trinix/core/backend.h>
#include <trinix/core/deterministic.h>
#include <trinix/core/kernel.h>
#include <trinix/core/ops/attention.h>
#include <trinix/trinix.h>

/// @file
/// Every attention kernel of the card, forward and backward, without the graph around it: median TFLOP/s over random
/// inputs, where a causal call counts half of the full one's 4 B H S^2 D operations, a window of W keys to the left the
/// share W / S (1 - W / 2S) that it leaves, and a backward 2.5 forwards. bench/peers/torch_gpu.py --only
/// attention_options times the same in PyTorch under the same names, and `bench/gpu --only attention_shapes` runs both
/// and compares.

namespace {

using trinix::Attention;
using trinix::Device;
using trinix::Tensor;

struct Size {
  const char* name;
  std::int64_t batch, length, heads, key_heads, depth;
  bool full, causal;  ///< what is asked for of this size
  bool options;       ///< and of it with options
};

/// What is asked for beside the sizes.
struct Options {
  const char* name;
  bool plain = false;  ///< causal and nothing else, or nothing at all
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
      return trinix::randn({s.batch, s.length, heads, s.depth}, {trinix::DType::f32, Device::cuda()})
          .to(trinix::DType::bf16);
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
      mask = trinix::randn({1, 1, s.length, s.length}, {trinix::DType::f32, Device::cuda()})
                 .to(trinix::DType::bf16)
                 .expand(shape);
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
    if (options.window >= 0) {
      const double part = static_cast<double>(options.window) / static_cast<double>(s.length);
      share = part * (1 - part / 2);
    }
    operations = 4.0 * static_cast<double>(s.batch * s.heads * s.length * s.length * s.depth) * share;
  }
};

enum class Direction { forward, backward, deterministic };

/// The last one that was asked for stays, since forward and backward follow one another.
const Problem& problem_of(const Size& size, const Options& options) {
  static std::optional<Problem> problem;
  static std::pair<const Size*, const Options*> of;
  if (of != std::pair{&size, &options}) {
    problem.reset();
    problem.emplace(size, options);
    of = {&size, &options};
  }
  return *problem;
}

void measure(benchmark::State& state, const trinix::Impl<Attention>& impl, const Size& size, const Options& options,
             Direction direction) {
  const Problem& problem = problem_of(size, options);
  const double operations = problem.operations * (direction == Direction::forward ? 1 : 2.5);
  const bool forward_only = direction == Direction::forward;
  const char* refusal = impl.why_not == nullptr ? nullptr : impl.why_not(problem.forward, !forward_only);
  if (refusal == nullptr && !forward_only && impl.backward == nullptr) refusal = "has no backward";
  if (refusal != nullptr) return state.SkipWithError(refusal);
  const trinix::Stream stream = trinix::stream_of(Device::cuda());
  trinix::set_deterministic(direction == Direction::deterministic);
  impl.forward(problem.forward, stream);
  // Some milliseconds of calls are queued together, so that the queue never runs dry. 4e14: about what comes out.
  const int calls = std::clamp(static_cast<int>(4e-3 / (operations / 4e14)), 2, 100);
  const auto run = [&] {
    trinix::synchronize(Device::cuda());
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) {
      if (direction == Direction::forward) {
        impl.forward(problem.forward, stream);
      } else {
        impl.backward(problem.backward, stream);
      }
    }
    trinix::synchronize(Device::cuda());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / calls;
  };
  for (int i = 0; i < 3; ++i) run();
  std::vector<double> seconds;
  for (auto _ : state) {
    seconds.push_back(run());
    state.SetIterationTime(seconds.back() * calls);
  }
  trinix::set_deterministic(false);
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  state.counters["us"] = median * 1e6;
  state.counters["best_us"] = seconds.front() * 1e6;
  state.counters["TFLOP/s"] = operations / median * 1e-12;
}

[[maybe_unused]] const bool registered = [] {
  trinix::initialize();
  if (!trinix::is_available(Device::cuda())) return false;
  static const Size sizes[] = {{"B1_S4096_H32_D128", 1, 4096, 32, 32, 128, true, true, true},
                               {"B4_S8192_H16_D128", 4, 8192, 16, 16, 128, false, true, false},
                               {"B2_S2048_H12_D64", 2, 2048, 12, 12, 64, true, true, false},
                               {"B32_S1024_H12_D64", 32, 1024, 12, 12, 64, false, true, true},  // GPT-2
                               {"B64_S256_H6_D64", 64, 256, 6, 6, 64, false, true, false},      // a model of characters
                               {"B8_S2048_H16_D96", 8, 2048, 16, 16, 96, false, true, false},
                               {"B1_S4096_H32_8_D128", 1, 4096, 32, 8, 128, false, true, false}};
  static const Options variants[] = {{.name = "full", .plain = true, .causal = false},
                                     {.name = "causal", .plain = true},
                                     {.name = "window512", .window = 512},
                                     {.name = "alibi", .slopes = true},
                                     {.name = "dropout", .dropout = 0.1},
                                     {.name = "mask", .causal = false, .mask = true}};
  static const char* const names[] = {"forward", "backward", "backward_deterministic"};
  for (const auto& impl : trinix::KernelTable<Attention>::instance().impls(trinix::DeviceType::cuda)) {
    for (const Size& size : sizes) {
      for (const Options& options : variants) {
        if (options.plain ? !(options.causal ? size.causal : size.full) : !size.options) continue;
        for (const Direction direction : {Direction::forward, Direction::backward, Direction::deterministic}) {
          const std::string name =
              std::string(impl.name) + "/" + size.name + "/" + options.name + "/" + names[static_cast<int>(direction)];
          benchmark::RegisterBenchmark(name.c_str(),
                                       [&impl, &size, &options, direction](benchmark::State& state) {
                                         measure(state, impl, size, options, direction);
                                       })
              ->UseManualTime()
              ->Iterations(25);
        }
      }
    }
  }
  return true;
}();

}  // namespace
