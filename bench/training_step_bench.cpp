// One training step of a GPT: forward, backward, clipping by norm, AdamW. bench/peers/torch_training_step.py times the
// same in PyTorch.
//
//   bench_training_step --benchmark_filter='wide/dropout_pct:0/threads:2'
//
// Every repetition is one step; the first steps of a model are a warm-up and do not count. The median is the figure to
// quote. peak_rss_MB is the peak of the whole process: run one benchmark at a time to compare it.
#include <algorithm>
#include <benchmark/benchmark.h>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <tuple>
#include <vector>

#include <trinix/autograd/ops/random.h>
#include <trinix/core/backend.h>
#include <trinix/core/generator.h>
#include <trinix/core/threads.h>
#include <trinix/layers/gpt.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>

namespace {

using namespace trinix;

constexpr int kWarmUp = 5;
constexpr int kRepetitions = 25;

struct Workload {
  const char* name;
  nn::GptConfig config;
  std::int64_t batch;
};

const Workload kWorkloads[] = {
    {"char_cpu", {.vocab_size = 65, .block_size = 64, .layers = 4, .heads = 4, .width = 128, .bias = false}, 12},
    {"wide", {.vocab_size = 65, .block_size = 256, .layers = 6, .heads = 6, .width = 384, .bias = false}, 8},
};

/// A model in training.
class Training {
 public:
  Training(const Workload& workload, double dropout)
      : gpt_(config_of(workload, dropout)),
        optimizer_(
            optim::decay_groups(gpt_, optim::AdamWOptions{.lr = 1e-3, .betas = {0.9, 0.99}, .weight_decay = 0.1})),
        parameters_(gpt_.parameters()) {
    Generator data(1);
    const Shape shape{workload.batch, workload.config.block_size};
    ids_ = randint(0, workload.config.vocab_size, shape, {DType::i64}, &data);
    targets_ = randint(0, workload.config.vocab_size, shape, {DType::i64}, &data);
  }

  float step() {
    optimizer_.zero_grad();
    const Tensor loss = gpt_.loss(ids_, targets_);
    loss.backward();
    const double norm = optim::grad_norm(parameters_);
    optimizer_.step({.grad_scale = optim::clip_scale(norm, 1.0)});
    return loss.item<float>();
  }

  [[nodiscard]] std::int64_t tokens() const { return ids_.numel(); }

 private:
  static nn::GptConfig config_of(const Workload& workload, double dropout) {
    nn::GptConfig config = workload.config;
    config.dropout = dropout;
    return config;
  }

  nn::Gpt gpt_;
  optim::AdamW optimizer_;
  std::vector<Tensor> parameters_;
  Tensor ids_;
  Tensor targets_;
};

/// The training that the arguments describe: the last one if it is the same, so that repetitions go on with it.
Training& training(const Workload& workload, std::int64_t dropout_percent, std::int64_t threads) {
  using Key = std::tuple<std::string, std::int64_t, std::int64_t>;
  static Key held;
  static std::unique_ptr<Training> last;
  Key wanted{workload.name, dropout_percent, threads};
  if (last == nullptr || held != wanted) {
    last.reset();
    empty_cache(Device::cpu());
    manual_seed(1);
    set_num_threads(static_cast<int>(threads));
    last = std::make_unique<Training>(workload, static_cast<double>(dropout_percent) / 100);
    for (int i = 0; i < kWarmUp; ++i) last->step();
    held = std::move(wanted);
  }
  return *last;
}

double peak_rss_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void training_step(benchmark::State& state, const Workload& workload) {
  Training& run = training(workload, state.range(0), state.range(1));
  for (auto _ : state) benchmark::DoNotOptimize(run.step());
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(run.tokens()), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["peak_rss_MB"] = peak_rss_megabytes();
  state.counters["tensors_MB"] = static_cast<double>(memory_stats(Device::cpu()).peak_allocated) / (1 << 20);
}

const bool registered = [] {
  for (const Workload& workload : kWorkloads) {
    benchmark::RegisterBenchmark((std::string("training_step/") + workload.name).c_str(),
                                 [&workload](benchmark::State& state) { training_step(state, workload); })
        ->ArgNames({"dropout_pct", "threads"})
        ->ArgsProduct({{0, 20}, {1, 2, 4}})
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime()
        ->Iterations(1)
        ->Repetitions(kRepetitions)
        ->ComputeStatistics("best", [](const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); })
        ->ReportAggregatesOnly();
  }
  return true;
}();

}  // namespace
