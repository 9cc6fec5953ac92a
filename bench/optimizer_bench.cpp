// What ends a training step, on the card: AdamW over bf16 parameters with f32 moments and master copies, the norm of
// all gradients, and, as the ceiling for both, a copy. Also the host's time for one small op, its gradient recorded.
//
//   bench_optimizer --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
//
// Optimizer and norm are captured, so that the figures are those of the card. GB_per_s counts bytes read and written.
#include <benchmark/benchmark.h>
#include <chrono>
#include <vector>

#include <trinix/trinix.h>

namespace {

using namespace trinix;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kParameters = 124'400'000;  // GPT-2, the smallest
constexpr int kRuns = 20;                          // between two waits

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

bool has_card(benchmark::State& state) {
  if (is_available(Device::cuda())) return true;
  state.SkipWithError("no CUDA card here");
  return false;
}

template <class F>
void time_on_card(benchmark::State& state, double bytes, F&& run) {
  for (int i = 0; i < 5; ++i) run();
  synchronize(Device::cuda());
  double total = 0;
  for (auto _ : state) {
    const auto begin = Clock::now();
    for (int i = 0; i < kRuns; ++i) run();
    synchronize(Device::cuda());
    const double seconds = seconds_since(begin) / kRuns;
    total += seconds;
    state.SetIterationTime(seconds);
  }
  state.counters["GB_per_s"] = bytes * static_cast<double>(state.iterations()) / total * 1e-9;
}

/// Parameters of nearly equal sizes, with random gradients.
std::vector<Tensor> parameters(std::int64_t count) {
  std::vector<Tensor> all;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t n = kParameters / count + (i % 3 - 1) * 8;
    Tensor p = rand({n}, {DType::f32, Device::cuda()}).to(DType::bf16);
    p.requires_grad_();
    p.set_grad(rand({n}, {DType::f32, Device::cuda()}).to(DType::bf16));
    all.push_back(p);
  }
  return all;
}

double elements(const std::vector<Tensor>& tensors) {
  double n = 0;
  for (const Tensor& t : tensors) n += static_cast<double>(t.numel());
  return n;
}

void Copy(benchmark::State& state) {
  if (!has_card(state)) return;
  const std::size_t bytes = std::size_t{1} << 30;
  const Tensor from = rand({1 << 28}, {DType::f32, Device::cuda()}), to = empty_like(from);
  const Stream stream = stream_of(Device::cuda());
  time_on_card(state, 2.0 * static_cast<double>(bytes), [&] {
    backend_of(Device::cuda()).copy(to.raw_data(), Device::cuda(), from.raw_data(), Device::cuda(), bytes, stream);
  });
}

void AdamW(benchmark::State& state) {
  if (!has_card(state)) return;
  const auto p = parameters(state.range(0));
  optim::AdamW optimizer(p);
  StepGraph step(Device::cuda(), [&](const std::vector<Tensor>&) {
    optimizer.step();
    return std::vector<Tensor>{};
  });
  time_on_card(state, 28 * elements(p), [&] { static_cast<void>(step()); });
}

void GradNorm(benchmark::State& state) {
  if (!has_card(state)) return;
  const auto p = parameters(state.range(0));
  StepGraph step(Device::cuda(),
                 [&](const std::vector<Tensor>&) { return std::vector<Tensor>{optim::grad_norm_tensor(p)}; });
  time_on_card(state, 2 * elements(p), [&] { static_cast<void>(step()); });
}

/// Host time of a + b for two tensors of 16 numbers, with and without recording.
void SmallAdd(benchmark::State& state) {
  const bool on_card = state.range(0) != 0;
  if (on_card && !has_card(state)) return;
  const Tensor a = ones({16}, {DType::f32, on_card ? Device::cuda() : Device::cpu(), state.range(1) != 0});
  const Tensor b = ones({16}, {DType::f32, on_card ? Device::cuda() : Device::cpu(), state.range(1) != 0});
  constexpr int kOps = 400;  // fewer than the driver queues before it makes the host wait
  for (auto _ : state) {
    const auto begin = Clock::now();
    for (int i = 0; i < kOps; ++i) benchmark::DoNotOptimize(a + b);
    state.SetIterationTime(seconds_since(begin) / kOps);
    synchronize(a.device());
  }
}

/// Host time of the parts: a tensor made and dropped.
void SmallEmpty(benchmark::State& state) {
  if (!has_card(state)) return;
  for (auto _ : state) benchmark::DoNotOptimize(empty({16}, {DType::f32, Device::cuda()}));
}

BENCHMARK(Copy)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(20);
BENCHMARK(AdamW)->Arg(150)->Arg(10'000)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(20);
BENCHMARK(GradNorm)->Arg(150)->Arg(10'000)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(20);
BENCHMARK(SmallAdd)
    ->ArgNames({"cuda", "grad"})
    ->ArgsProduct({{0, 1}, {0, 1}})
    ->UseManualTime()
    ->Unit(benchmark::kNanosecond)
    ->Iterations(50);
BENCHMARK(SmallEmpty)->Unit(benchmark::kNanosecond);

}  // namespace
