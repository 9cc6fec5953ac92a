// Activations, gated units, rotary embedding and dropout on a card, forward and backward, in bf16, beside the copy of
// the same session; bench/peers/torch_activations.py times the same in PyTorch.
//
//   bench_cuda_activation [--only swiglu,rope,...] [--json FILE]
//
// "large" has outputs of 128 MB, "small" of 2 MB. Bytes are those that cannot be avoided: one read of each input and
// one write of each output. Both directions go through the public functions, the backward through grad() with the graph
// kept, so small sizes show what a call costs.
#include "measure.h"

#include <cstring>
#include <functional>
#include <sstream>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/glu.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/autograd/ops/rope.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/error.h>
#include <trinix/layers/rope.h>

namespace {

using namespace trinix;
using bench::measure;
using bench::Seconds;

constexpr std::int64_t kLength = 2048, kHeads = 32, kDepth = 128;

struct Case {
  std::string name;
  std::int64_t inputs;  ///< elements of the input per element of output
  std::function<Tensor(const Tensor&)> op;
  double forward_values;   ///< read and written per element of output
  double backward_values;  ///< likewise
  bool of_heads = false;   ///< the input is (B, kLength, kHeads, kDepth)
};

std::vector<Case> cases(Device device) {
  const auto rope_of = [device](RopeLayout layout) {
    const auto rope =
        std::make_shared<nn::RoPE>(nn::RoPEOptions{.dim = kDepth, .max_positions = kLength, .layout = layout});
    static_cast<void>(rope->tables(kLength, device));
    return [rope](const Tensor& x) { return rope->forward(x); };
  };
  const auto gated = [](const char* name, Glu kind) {
    return Case{name, 2, [kind](const Tensor& x) { return glu(x, kind); }, 3, 5};
  };
  const auto unary = [](const char* name, Activation a) {
    return Case{name, 1, [a](const Tensor& x) { return activate(x, a); }, 2, 3};
  };
  return {gated("swiglu", Glu::swiglu),
          gated("geglu_erf", Glu::geglu_erf),
          gated("geglu_tanh", Glu::geglu_tanh),
          gated("reglu", Glu::reglu),
          unary("mish", Activation::mish),
          unary("quick_gelu", Activation::quick_gelu),
          unary("squared_relu", Activation::squared_relu),
          unary("gelu_erf", Activation::gelu_erf),
          unary("gelu_tanh", Activation::gelu_tanh),
          unary("silu", Activation::silu),
          {"rope_half", 1, rope_of(RopeLayout::half), 2, 2, true},
          {"rope_interleaved", 1, rope_of(RopeLayout::interleaved), 2, 2, true},
          {"dropout", 1, [](const Tensor& x) { return dropout(x, 0.1); }, 2, 2}};
}

Shape shape_of(const Case& c, std::int64_t values) {
  if (!c.of_heads) return {values / 4096, 4096 * c.inputs};
  const std::int64_t tokens = values / (kHeads * kDepth);
  const std::int64_t length = std::min(tokens, kLength);
  return {tokens / length, length, kHeads, kDepth};
}

double measure_copy(bench::Report& report, Device device) {
  const NoGrad no_grad;
  constexpr std::int64_t values = std::int64_t{1} << 28;
  const Tensor from[] = {randn({values}, {DType::bf16, device}), randn({values}, {DType::bf16, device})};
  const Tensor to[] = {empty_like(from[0]), empty_like(from[0])};
  const Seconds s = measure(device, {.iterations = 5}, [&](int i) { to[i % 2].copy_(from[i % 2]); });
  const double rate = 1e-9 * 4 * values / s.median;
  report.add("copy", "copy_", s, {{"gb_per_second", rate}});
  return rate;
}

void run(bench::Report& report, const Case& c, bool large, double copy_rate, Device device) {
  const std::int64_t values = std::int64_t{1} << (large ? 26 : 20);
  const int iterations = large ? 10 : 200;
  const Shape shape = shape_of(c, values);
  std::vector<Tensor> inputs, outputs;
  for (int i = 0; i < 2; ++i) inputs.push_back(randn(shape, {DType::bf16, device}).requires_grad_());
  const auto add = [&](const char* direction, const Seconds& s, double per_value) {
    const double rate = 1e-9 * 2 * per_value * static_cast<double>(values) / s.median;
    report.add(c.name + (large ? " large " : " small ") + direction, "fused", s,
               {{"gb_per_second", rate}, {"of_copy", rate / copy_rate}});
  };
  {
    const NoGrad no_grad;
    add("forward",
        measure(device, {.iterations = iterations},
                [&](int i) { static_cast<void>(c.op(inputs[static_cast<std::size_t>(i % 2)])); }),
        c.forward_values);
  }
  for (const Tensor& x : inputs) outputs.push_back(c.op(x));
  const Tensor dy = randn(outputs[0].shape(), {DType::bf16, device});
  add("backward",
      measure(device, {.iterations = iterations},
              [&](int i) {
                const auto k = static_cast<std::size_t>(i % 2);
                static_cast<void>(grad(outputs[k], {inputs[k]}, dy, {.retain_graph = true}));
              }),
      c.backward_values);
}

/// q and k of one projection, in place: what a layer does.
void run_packed(bench::Report& report, double copy_rate, Device device) {
  const NoGrad no_grad;
  constexpr std::int64_t batch = 4;
  const nn::RoPE rope({.dim = kDepth, .max_positions = kLength});
  const Tensor qkv = randn({batch, kLength, 3 * kHeads * kDepth}, {DType::bf16, device});
  const Seconds s = measure(device, {.iterations = 10}, [&](int) { rope.apply_packed_(qkv, kHeads, kHeads); });
  const double rate = 1e-9 * 4 * 2 * batch * kLength * kHeads * kDepth / s.median;
  report.add("rope_packed large forward", "in place", s, {{"gb_per_second", rate}, {"of_copy", rate / copy_rate}});
}

bool wanted(const std::string& only, const std::string& name) {
  if (only.empty()) return true;
  std::stringstream list(only);
  for (std::string item; std::getline(list, item, ',');) {
    if (item == name) return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  std::string only, json;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--only") == 0) only = argv[i + 1];
    if (std::strcmp(argv[i], "--json") == 0) json = argv[i + 1];
  }
  try {
    const Device device = Device::cuda();
    bench::Report report;
    const double copy_rate = measure_copy(report, device);
    for (const Case& c : cases(device)) {
      if (!wanted(only, c.name)) continue;
      for (const bool large : {true, false}) run(report, c, large, copy_rate, device);
    }
    if (wanted(only, "rope_packed")) run_packed(report, copy_rate, device);
    if (!json.empty() && !report.write(json, device.to_string())) return 1;
  } catch (const Error& e) {
    std::fprintf(stderr, "bench_cuda_activation: %s\n", e.what());
    return 1;
  }
  return 0;
}
