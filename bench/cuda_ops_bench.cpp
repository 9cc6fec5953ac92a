// Ops on a CUDA card that are bound by memory: time per call, and bytes that must move over that time. Calls are queued
// behind one another and waited for once, so that the time is the card's.
#include <benchmark/benchmark.h>
#include <chrono>

#include <trinix/core/ops/cross_entropy.h>
#include <trinix/trinix.h>

namespace trinix {
namespace {

/// Runs `call(i)` for i in [0, calls) between two synchronisations; false, with a reason, where there is no card.
template <class Prepare, class F>
void time_on_card(benchmark::State& state, int calls, double bytes, Prepare prepare, F call) {
  using Clock = std::chrono::steady_clock;
  for (auto _ : state) {
    prepare();
    synchronize(Device::cuda());
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) call(i);
    synchronize(Device::cuda());
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count() / calls);
  }
  state.counters["GB/s"] =
      benchmark::Counter(bytes / 1e9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

bool no_card(benchmark::State& state) {
  if (is_available(Device::cuda())) return false;
  state.SkipWithError("needs a CUDA card, and this machine has none");
  return true;
}

View matrix_view(const Tensor& t, std::int64_t rows, std::int64_t columns) {
  View v = t.raw();
  v.shape = {rows, columns};
  v.strides = contiguous_strides(v.shape);
  return v;
}

/// Forward and backward, the gradient over the logits. Every call has logits of its own, random ones.
void cross_entropy_in_place(benchmark::State& state) {
  if (no_card(state)) return;
  const std::int64_t rows = state.range(0);
  const std::int64_t classes = state.range(1);
  const double bytes = static_cast<double>(2 * rows * classes * 2);
  const int calls = static_cast<int>(std::clamp(20e9 / bytes, 4.0, 40.0));
  const TensorOptions bf16{DType::bf16, Device::cuda()};
  const TensorOptions f32{DType::f32, Device::cuda()};
  const std::int64_t some = std::min<std::int64_t>(rows, 32);
  const Tensor random = randn({1, some, classes}).to(DType::bf16).to(Device::cuda());
  const Tensor targets = randint(0, classes, {rows}).to(Device::cuda());
  std::vector<Tensor> logits;
  for (int i = 0; i < calls; ++i) logits.push_back(empty({rows / some, some, classes}, bf16));
  const Tensor loss = empty({}, f32);
  const Tensor lse = empty({rows}, f32);
  const Tensor count = empty({}, f32);
  const Tensor one = from_vector<float>({1}, Shape{}).to(Device::cuda());
  const Stream stream = stream_of(Device::cuda());
  time_on_card(
      state, calls, bytes,
      [&] {
        for (const Tensor& t : logits) t.copy_(random.expand(t.shape()));
      },
      [&](int i) {
        const View x = matrix_view(logits[static_cast<std::size_t>(i)], rows, classes);
        const CrossEntropy::Forward args{.logits = x,
                                         .targets = targets.raw(),
                                         .loss = loss.raw(),
                                         .lse = lse.raw(),
                                         .count = count.raw(),
                                         .reduction = LossReduction::mean,
                                         .ignore_index = -100,
                                         .label_smoothing = 0,
                                         .dlogits = x};
        const auto* impl = KernelTable<CrossEntropy>::instance().select(args, Device::cuda(), true);
        impl->forward(args, stream);
        impl->backward({.dloss = one.raw(), .dlogits = x, .reduction = LossReduction::mean, .scale_only = true},
                       stream);
      });
}
BENCHMARK(cross_entropy_in_place)
    ->Args({16384, 50304})
    ->Args({16384, 50257})
    ->Args({16384, 65})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Iterations(8);

/// Tokens x width in bf16, drawn from a vocabulary of 50304: the gradient of the table.
void embedding_backward(benchmark::State& state) {
  if (no_card(state)) return;
  const std::int64_t tokens = state.range(0);
  const std::int64_t width = state.range(1);
  const Tensor ids = randint(0, 50304, {tokens}).to(Device::cuda());
  const Tensor dy = randn({tokens, width}).to(DType::bf16).to(Device::cuda());
  Tensor weight = zeros({50304, width}, {DType::bf16, Device::cuda()}).requires_grad_();
  embedding(ids, weight).backward(dy);  // the buffer of the gradient; from now on it is added to
  std::vector<Tensor> outputs;
  time_on_card(
      state, 20, static_cast<double>(2 * tokens * width * 3),
      [&] {
        outputs.clear();
        for (int i = 0; i < 20; ++i) outputs.push_back(embedding(ids, weight));
      },
      [&](int i) { outputs[static_cast<std::size_t>(i)].backward(dy); });
}
BENCHMARK(embedding_backward)->Args({32768, 768})->UseManualTime()->Unit(benchmark::kMicrosecond)->Iterations(8);

void cumsum_rows(benchmark::State& state) {
  if (no_card(state)) return;
  const Tensor x = randn({state.range(0), state.range(1)}).to(Device::cuda());
  time_on_card(
      state, 20, static_cast<double>(x.numel() * 8), [] {}, [&](int) { benchmark::DoNotOptimize(cumsum(x, -1)); });
}
BENCHMARK(cumsum_rows)
    ->Args({4096, 8192})
    ->Args({1, 1 << 25})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Iterations(8);

void topk_of_logits(benchmark::State& state) {
  if (no_card(state)) return;
  const Tensor x = randn({state.range(0), 50304}).to(Device::cuda());
  time_on_card(
      state, 20, static_cast<double>(x.numel() * 4), [] {}, [&](int) { benchmark::DoNotOptimize(topk(x, 200)); });
}
BENCHMARK(topk_of_logits)->Arg(1)->Arg(64)->UseManualTime()->Unit(benchmark::kMicrosecond)->Iterations(8);

}  // namespace
}  // namespace trinix
