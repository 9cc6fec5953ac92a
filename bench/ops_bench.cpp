// Single ops on the CPU, forward alone or with backward; bench/peers/torch_ops.py times the same in PyTorch.
//
//   bench_ops --benchmark_filter='softmax' --benchmark_out=ops.json
//
// Sizes are those of a GPT of 384 wide with 2048 tokens in a batch, and for activations, rotary embedding, dropout and
// norms 64 K and 16 M elements of output. Threads 1 and 2; bytes are those that the op cannot avoid, one read of each
// input and one write of each output. Gradients are returned, as torch.autograd.grad() returns them, and not added to
// leaves.
#include <algorithm>
#include <benchmark/benchmark.h>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/attention.h>
#include <trinix/autograd/ops/glu.h>
#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/ops/loss.h>
#include <trinix/autograd/ops/norm.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/rope.h>
#include <trinix/autograd/ops/softmax.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/threads.h>
#include <trinix/optim/adamw.h>

namespace {

using namespace trinix;

/// A computation of one tensor from others.
using Op = std::function<Tensor(const std::vector<Tensor>&)>;

void forward(benchmark::State& state, const std::vector<Tensor>& inputs, double bytes, const Op& op) {
  const NoGrad no_grad;
  set_num_threads(static_cast<int>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(op(inputs));
  set_num_threads(0);
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * state.iterations());
}

void backward_too(benchmark::State& state, const std::vector<Tensor>& inputs, double bytes, const Op& op) {
  set_num_threads(static_cast<int>(state.range(0)));
  std::vector<Tensor> leaves, wanted;
  for (const Tensor& t : inputs) {
    leaves.push_back(is_floating(t.dtype()) ? t.detach().requires_grad_() : t);
    if (leaves.back().requires_grad()) wanted.push_back(leaves.back());
  }
  const Tensor gradient = randn(op(leaves).shape());
  for (auto _ : state) benchmark::DoNotOptimize(grad(op(leaves), wanted, gradient));
  set_num_threads(0);
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * state.iterations());
}

struct Case {
  std::string name;
  std::vector<Tensor> inputs;
  Op op;
  double forward_values;   ///< f32 values that the forward reads and writes
  double backward_values;  ///< that the backward does, besides
};

std::vector<Case> cases() {
  constexpr std::int64_t rows = 2048, width = 384, heads = 6, vocab = 8192;
  constexpr double n = rows * width;
  const Tensor x = randn({rows, width}), y = randn({rows, width}), wide = randn({rows, 4 * width});
  const Tensor gain = randn({width}), shift = randn({width});
  const Tensor q = randn({8, 256, heads, 64}), k = randn({8, 256, heads, 64}), v = randn({8, 256, heads, 64});
  const Tensor logits = randn({rows, vocab});
  const Tensor targets = randint(0, vocab, {rows}, {DType::i64});
  const Tensor table = randn({vocab, width});
  using In = const std::vector<Tensor>&;
  return {
      {"add", {x, y}, [](In in) { return in[0] + in[1]; }, 3 * n, 3 * n},
      {"add_broadcast", {x, gain}, [](In in) { return in[0] + in[1]; }, 2 * n, 3 * n},
      {"mul", {x, y}, [](In in) { return in[0] * in[1]; }, 3 * n, 5 * n},
      {"gelu", {wide}, [](In in) { return gelu(in[0], Gelu::tanh); }, 8 * n, 12 * n},
      {"gelu_erf", {wide}, [](In in) { return gelu(in[0], Gelu::erf); }, 8 * n, 12 * n},
      {"sum_rows", {x}, [](In in) { return sum(in[0], {1}); }, n, n},
      {"softmax", {wide}, [](In in) { return softmax(in[0], -1); }, 8 * n, 12 * n},
      {"layer_norm", {x, gain, shift}, [](In in) { return layer_norm(in[0], in[1], in[2]); }, 2 * n, 3 * n},
      {"cross_entropy",
       {logits, targets},
       [](In in) { return cross_entropy(in[0], in[1]); },
       1.0 * rows * vocab,
       2.0 * rows * vocab},
      {"attention",
       {q, k, v},
       [](In in) { return scaled_dot_product_attention(in[0], in[1], in[2], {.causal = true}); },
       4 * n,
       8 * n},
      {"embedding", {targets, table}, [](In in) { return embedding(in[0], in[1]); }, 2 * n, n + 1.0 * vocab * width},
      {"transpose_copy", {x}, [](In in) { return in[0].transpose(0, 1).contiguous(); }, 2 * n, 2 * n},
  };
}

/// Activations, gated units, rotary embedding, dropout and norms of n elements of output.
std::vector<Case> elementwise_cases(const std::string& size, std::int64_t n) {
  constexpr std::int64_t heads = 16, depth = 64;
  const auto values = static_cast<double>(n);
  const Tensor x = randn({n / 1024, 1024}), branch = randn({n / 1024, 1024}), packed = randn({n / 1024, 2048});
  const Tensor gain = randn({1024}), shift = randn({1024});
  const Tensor q = randn({1, n / (heads * depth), heads, depth});
  const Tensor angles = rand({n / (heads * depth), depth / 2}) * 6.28;
  const Tensor c = cos(angles), s = sin(angles);
  using In = const std::vector<Tensor>&;
  const auto unary = [&](const char* name, Activation a) {
    return Case{name + size, {x}, [a](In in) { return activate(in[0], a); }, 2 * values, 3 * values};
  };
  const auto gated = [&](const char* name, Glu kind) {
    return Case{name + size, {packed}, [kind](In in) { return glu(in[0], kind); }, 3 * values, 5 * values};
  };
  const auto turned = [&](const char* name, RopeLayout layout) {
    return Case{name + size, {q}, [=](In in) { return rope(in[0], c, s, {.layout = layout}); }, 2 * values, 2 * values};
  };
  return {gated("swiglu_", Glu::swiglu),
          gated("geglu_", Glu::geglu_erf),
          gated("geglu_tanh_", Glu::geglu_tanh),
          gated("reglu_", Glu::reglu),
          unary("mish_", Activation::mish),
          unary("quick_gelu_", Activation::quick_gelu),
          unary("squared_relu_", Activation::squared_relu),
          unary("gelu_erf_", Activation::gelu_erf),
          turned("rope_half_", RopeLayout::half),
          turned("rope_interleaved_", RopeLayout::interleaved),
          {"dropout_" + size, {x}, [](In in) { return dropout(in[0], 0.1); }, 2 * values, 2 * values},
          {"rms_norm_" + size, {x, gain}, [](In in) { return rms_norm(in[0], in[1]); }, 2 * values, 3 * values},
          {"layer_norm_" + size,
           {x, gain, shift},
           [](In in) { return layer_norm(in[0], in[1], in[2]); },
           2 * values,
           3 * values},
          {"add_rms_norm_" + size,
           {x, branch, gain},
           [](In in) { return add_rms_norm(in[0], in[1], in[2]).second; },
           4 * values,
           3 * values},
          {"add_layer_norm_" + size,
           {x, branch, gain, shift},
           [](In in) { return add_layer_norm(in[0], in[1], in[2], in[3]).second; },
           4 * values,
           3 * values}};
}

void adamw(benchmark::State& state) {
  constexpr std::int64_t tensors = 32, size = 1 << 18;
  set_num_threads(static_cast<int>(state.range(0)));
  std::vector<Tensor> parameters;
  for (std::int64_t i = 0; i < tensors; ++i) {
    parameters.push_back(randn({size}).requires_grad_());
    parameters.back().set_grad(randn({size}));
  }
  optim::AdamW optimizer(parameters, {.lr = 1e-4});
  for (auto _ : state) optimizer.step();
  set_num_threads(0);
  state.SetBytesProcessed(7 * 4 * tensors * size * state.iterations());
}

const bool registered = [] {
  const auto settle = [](benchmark::internal::Benchmark* b) {
    b->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  std::vector<Case> all = cases();
  for (const auto& [size, n] : {std::pair("64K", 1 << 16), std::pair("16M", 1 << 24)}) {
    for (Case& c : elementwise_cases(size, n)) all.push_back(std::move(c));
  }
  for (const Case& c : all) {
    settle(benchmark::RegisterBenchmark((c.name + "/forward").c_str(), [c](benchmark::State& state) {
      forward(state, c.inputs, 4 * c.forward_values, c.op);
    }));
    settle(benchmark::RegisterBenchmark((c.name + "/both").c_str(), [c](benchmark::State& state) {
      backward_too(state, c.inputs, 4 * (c.forward_values + c.backward_values), c.op);
    }));
  }
  settle(benchmark::RegisterBenchmark("adamw/step", adamw));
  return true;
}();

}  // namespace
