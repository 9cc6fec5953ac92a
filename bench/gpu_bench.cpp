// What this library does on a card, workload by workload; bench/peers/torch_gpu.py times the same in PyTorch, and
// bench/gpu runs both in turn and compares. On its own:
//
//   bench_gpu [--only gpt2,char,...] [--json FILE] [--device cuda:N]
//
// Inputs are random, never zeros: a card draws less power on zeros and runs faster.

#include "measure.h"
#include "optimizer_workloads.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <sstream>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/attention.h>
#include <trinix/autograd/ops/linalg.h>
#include <trinix/autograd/ops/loss.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/autograd/step_graph.h>
#include <trinix/core/error.h>
#include <trinix/core/generator.h>
#include <trinix/layers/gpt.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>

namespace {

using namespace trinix;
using bench::measure;
using bench::Report;
using bench::Seconds;

Tensor random_values(const Shape& shape, Device device) { return randn(shape, {DType::bf16, device}); }

// Ceilings ------------------------------------------------------------------------------------------------------------

void ceilings(Report& report, Device device) {
  const NoGrad no_grad;
  {
    constexpr std::int64_t values = std::int64_t{1} << 28;
    const Tensor from[] = {random_values({values}, device), random_values({values}, device)};
    const Tensor to[] = {empty_like(from[0]), empty_like(from[0])};
    const Seconds s = measure(device, {.iterations = 5}, [&](int i) { to[i % 2].copy_(from[i % 2]); });
    report.add("copy", "copy_", s, {{"gb_per_second", 1e-9 * 4 * values / s.median}});
  }
  constexpr std::int64_t n = 4096;
  std::vector<Tensor> a, b;
  for (int i = 0; i < 3; ++i) {
    a.push_back(random_values({n, n}, device));
    b.push_back(random_values({n, n}, device));
  }
  const Seconds s = measure(device, {.iterations = 10}, [&](int i) {
    static_cast<void>(matmul(a[static_cast<std::size_t>(i % 3)], b[static_cast<std::size_t>(i % 3)]));
  });
  report.add("matmul", "matmul", s, {{"tflops", 1e-12 * 2 * std::pow(n, 3) / s.median}});
}

// Training steps ------------------------------------------------------------------------------------------------------

struct Workload {
  const char* name;
  nn::GptConfig config;
  std::int64_t batch;
  int iterations;
};

const Workload kGpt2 = {"gpt2", {.vocab_size = 50304}, 32, 2};
const Workload kChar = {"char",
                        {.vocab_size = 65,
                         .block_size = 256,
                         .layers = 6,
                         .heads = 6,
                         .width = 384,
                         .dropout = 0.2,
                         .bias = false,
                         .activation = Gelu::erf},
                        64,
                        5};

/// A model in training: bf16 parameters and activations, f32 master weights and moments.
class Training {
 public:
  Training(const Workload& workload, Device device)
      : generator_(1), gpt_(config_of(workload, device)), optimizer_(make_optimizer(gpt_)) {
    const Shape shape{workload.batch, workload.config.block_size};
    for (int i = 0; i < 2 * kBatches; ++i) {
      batches_.push_back(randint(0, workload.config.vocab_size, shape, {DType::i32, device}, &generator_));
    }
    parameters_ = gpt_.parameters();
  }

  /// Inputs and targets of the i-th batch.
  [[nodiscard]] std::vector<Tensor> batch(int i) const {
    const auto at = static_cast<std::size_t>(i % kBatches);
    return {batches_[2 * at], batches_[2 * at + 1]};
  }

  /// @returns the loss and the norm of the gradients, not read
  std::vector<Tensor> step(const std::vector<Tensor>& batch) {
    optimizer_.zero_grad();
    const Tensor loss = gpt_.loss(batch[0], batch[1]);
    loss.backward();
    const Tensor norm = optim::grad_norm_tensor(parameters_);
    optimizer_.step({.norm = norm, .max_norm = 1.0});
    return {loss.detach(), norm};
  }

  [[nodiscard]] std::int64_t tokens() const { return batches_.front().numel(); }

 private:
  static constexpr int kBatches = 4;

  nn::GptConfig config_of(const Workload& workload, Device device) {
    nn::GptConfig config = workload.config;
    config.tensor = {DType::bf16, device};
    config.generator = &generator_;
    return config;
  }
  static optim::AdamW make_optimizer(const nn::Gpt& gpt) {
    return optim::AdamW(
        optim::decay_groups(gpt, optim::AdamWOptions{.lr = 1e-4, .betas = {0.9, 0.99}, .weight_decay = 0.1}));
  }

  Generator generator_;
  nn::Gpt gpt_;
  optim::AdamW optimizer_;
  std::vector<Tensor> parameters_, batches_;
};

void training_step(Report& report, Device device, const Workload& workload) {
  for (const bool captured : {false, true}) {
    empty_cache(device);
    Training training(workload, device);
    reset_peak_memory(device);
    StepGraph graph(device, [&](const std::vector<Tensor>& batch) { return training.step(batch); });
    const Seconds s = measure(device, {.iterations = workload.iterations, .warm_up = 8}, [&](int i) {
      static_cast<void>(captured ? graph(training.batch(i)) : training.step(training.batch(i)));
    });
    report.add(workload.name, captured ? "StepGraph" : "eager", s,
               {{"tokens_per_second", static_cast<double>(training.tokens()) / s.median},
                {"peak_gib", static_cast<double>(memory_stats(device).peak_allocated) / (1 << 30)}});
  }
}

// Single ops ----------------------------------------------------------------------------------------------------------

void attention(Report& report, Device device) {
  constexpr std::int64_t b = 32, s = 1024, h = 12, d = 64;
  const Tensor qkv[] = {random_values({b, s, 3, h, d}, device), random_values({b, s, 3, h, d}, device)};
  const Tensor dy = random_values({b, s, h, d}, device);
  constexpr double flops = 4.0 * b * h * s * s * d / 2;
  const AttentionOptions options{.causal = true};
  {
    const NoGrad no_grad;
    const Seconds t = measure(device, {.iterations = 5},
                              [&](int i) { static_cast<void>(packed_self_attention(qkv[i % 2], h, options)); });
    report.add("attention_forward", "fused", t, {{"tflops", 1e-12 * flops / t.median}});
  }
  Tensor leaves[] = {qkv[0].detach().requires_grad_(), qkv[1].detach().requires_grad_()};
  const Seconds t = measure(device, {.iterations = 5}, [&](int i) {
    leaves[i % 2].zero_grad();
    packed_self_attention(leaves[i % 2], h, options).backward(dy);
  });
  report.add("attention", "fused", t, {{"tflops", 1e-12 * 3.5 * flops / t.median}});
}

void cross_entropy_in_place(Report& report, Device device) {
  constexpr std::int64_t rows = 16384, vocab = 50304;
  const Tensor values = random_values({rows, vocab}, device);
  const Tensor targets = randint(0, vocab, {rows}, {DType::i32, device});
  // As in a model, the logits are the result of another op. The gradient takes their place, so each is used once.
  const Tensor leaf = zeros({1}, {.dtype = DType::bf16, .device = device, .requires_grad = true});
  constexpr int iterations = 3;
  std::vector<Tensor> logits(iterations);
  const auto prepare = [&] {
    for (Tensor& x : logits) {
      x = {};
      x = values + leaf;
    }
  };
  const Seconds s = measure(
      device, {.iterations = iterations, .warm_up = 2 * iterations},
      [&](int i) {
        Tensor& x = logits[static_cast<std::size_t>(i % iterations)];
        static_cast<void>(grad(cross_entropy(x, targets, {.overwrite_logits = true}), {x}));
      },
      prepare);
  report.add("cross_entropy", "in place", s, {{"gb_per_second", 1e-9 * 4 * rows * vocab / s.median}});
}

void adamw(Report& report, Device device) {
  constexpr std::int64_t total = 124'475'904;
  for (const std::int64_t tensors : {std::int64_t{150}, std::int64_t{10'000}}) {
    empty_cache(device);
    const std::int64_t size = total / tensors;
    std::vector<Tensor> parameters;
    for (std::int64_t i = 0; i < tensors; ++i) {
      parameters.push_back(random_values({size}, device).requires_grad_());
      parameters.back().set_grad(random_values({size}, device));
    }
    optim::AdamW optimizer(parameters, {.lr = 1e-4});
    // Read: gradient (2 bytes), master weight and moments (4 each); written: those three and the weight (2).
    const double bytes = 28.0 * static_cast<double>(size * tensors);
    const std::string name = "adamw_" + std::to_string(tensors);
    const Seconds s = measure(device, {.iterations = 3, .warm_up = 3}, [&](int) { optimizer.step(); });
    report.add(name, "bf16, f32 master weights and moments", s, {{"gb_per_second", 1e-9 * bytes / s.median}});
    StepGraph graph(device, [&](const std::vector<Tensor>&) {
      optimizer.step();
      return std::vector<Tensor>();
    });
    const Seconds captured = measure(device, {.iterations = 3, .warm_up = 3}, [&](int) { graph(); });
    report.add(name, "the same, captured", captured, {{"gb_per_second", 1e-9 * bytes / captured.median}});
  }
}

void eager_add(Report& report, Device device) {
  const Tensor a = randn({16}, {.device = device, .requires_grad = true});
  const Tensor b = randn({16}, {.device = device, .requires_grad = true});
  constexpr int adds = 1000;
  std::vector<double> times;
  for (int run = 0; run < 30; ++run) {
    synchronize(device);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < adds; ++i) static_cast<void>(a + b);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (run >= 5) times.push_back(took.count() / adds);
  }
  std::sort(times.begin(), times.end());
  report.add("eager_add", "eager", {times[times.size() / 2], times.front()});
}

// The program ---------------------------------------------------------------------------------------------------------

const std::map<std::string, std::function<void(Report&, Device)>> kWorkloads = {
    {"ceilings", ceilings},
    {"gpt2", [](Report& report, Device device) { training_step(report, device, kGpt2); }},
    {"char", [](Report& report, Device device) { training_step(report, device, kChar); }},
    {"attention", attention},
    {"cross_entropy", cross_entropy_in_place},
    {"adamw", adamw},
    {"optimizers", bench::optimizers},
    {"eager_add", eager_add},
};

int run(int argc, char** argv) {
  std::map<std::string, std::string> options = {
      {"--only", "ceilings,gpt2,char,attention,cross_entropy,adamw,optimizers,eager_add"},
      {"--json", ""},
      {"--device", "cuda"}};
  for (int i = 1; i < argc; i += 2) {
    if (!options.contains(argv[i]) || i + 1 == argc) {
      std::fprintf(stderr, "usage: bench_gpu [--only NAME,...] [--json FILE] [--device cuda:N]\n");
      return 2;
    }
    options[argv[i]] = argv[i + 1];
  }
  const Device device = Device::parse(options["--device"]);
  const std::string described = backend_of(device).describe(device.index);
  std::printf("# trinix on %s\n", described.c_str());
  Report report;
  bool failed = false;
  std::istringstream names(options["--only"]);
  for (std::string name; std::getline(names, name, ',');) {
    const auto found = kWorkloads.find(name);
    if (found == kWorkloads.end()) {
      std::fprintf(stderr, "bench_gpu: there is no workload '%s'\n", name.c_str());
      return 2;
    }
    try {
      found->second(report, device);
    } catch (const Error& error) {  // one that fails does not hide the others
      std::fprintf(stderr, "bench_gpu: %s: %s\n", name.c_str(), error.what());
      failed = true;
    }
    empty_cache(device);
  }
  const std::string card = described.substr(0, described.find(','));
  if (!options["--json"].empty() && !report.write(options["--json"], card)) {
    std::fprintf(stderr, "bench_gpu: cannot write %s\n", options["--json"].c_str());
    return 1;
  }
  return failed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_gpu: %s\n", error.what());
    return 1;
  }
}
