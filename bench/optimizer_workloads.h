#pragma once

#include "measure.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/autograd/step_graph.h>
#include <trinix/core/backend.h>
#include <trinix/optim/adam.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>
#include <trinix/optim/lion.h>
#include <trinix/optim/muon.h>

/// @file
/// Steps of the optimizers on a card, by the names of `optimizers` in bench/peers/torch_gpu.py: AdamW, Adam and Lion
/// over f32 parameters, AdamW over 16 and over 10,000 tensors, Muon over the hidden matrices of GPT-2, and the norm for
/// clipping. Each runs captured, which is how training runs it, and eagerly where the host could matter.

namespace trinix::bench {

/// `total` numbers in `count` tensors, with gradients.
inline std::vector<Tensor> parameters_with_gradients(std::int64_t total, std::int64_t count, DType dtype,
                                                     Device device) {
  std::vector<Tensor> all;
  for (std::int64_t i = 0; i < count; ++i) {
    const TensorOptions options{DType::f32, device};
    Tensor p = randn({total / count}, options).to(dtype).detach();
    p.requires_grad_();
    p.set_grad(randn({total / count}, options).to(dtype));
    all.push_back(p);
  }
  return all;
}

/// The 48 hidden matrices of GPT-2 124M.
inline std::vector<Tensor> hidden_matrices(DType dtype, Device device) {
  std::vector<Tensor> all;
  for (int layer = 0; layer < 12; ++layer) {
    for (const Shape& shape : {Shape{2304, 768}, Shape{768, 768}, Shape{3072, 768}, Shape{768, 3072}}) {
      Tensor p = (randn(shape, {DType::f32, device}) * 0.02).to(dtype).detach();
      p.requires_grad_();
      p.set_grad(randn(shape, {DType::f32, device}).to(dtype));
      all.push_back(p);
    }
  }
  return all;
}

struct StepCost {
  double bytes = 0;  ///< read and written; 0: not bound by them
  bool eager = false;
};

/// Times optimizer.step(), captured and, on request, eager.
inline void time_step(Report& report, Device device, const std::string& workload, const std::string& what,
                      optim::Optimizer& optimizer, const StepCost& cost, const MeasureOptions& options) {
  const auto add = [&](const std::string& variant, const Seconds& s) {
    Report::Numbers numbers;
    if (cost.bytes > 0) numbers.push_back({"gb_per_second", 1e-9 * cost.bytes / s.median});
    report.add(workload, variant, s, numbers);
  };
  if (cost.eager) add(what + ", eager", measure(device, options, [&](int) { optimizer.step(); }));
  StepGraph graph(device, [&](const std::vector<Tensor>&) {
    optimizer.step();
    return std::vector<Tensor>();
  });
  add(what, measure(device, options, [&](int) { static_cast<void>(graph()); }));
}

/// The iteration of Muon alone, by each of its kernels: what the symmetric products are worth.
inline void newton_schulz_kernels(Report& report, Device device) {
  const std::vector<QuinticStep> steps =
      optim::newton_schulz_steps(optim::NewtonSchulzCoefficients::quintic, optim::NewtonSchulzOptions().steps);
  struct Batch {
    Tensor x, out, work;
  };
  std::vector<Batch> batches;
  double flops = 0;
  for (const Shape& shape : {Shape{12, 2304, 768}, Shape{12, 768, 768}, Shape{12, 3072, 768}, Shape{12, 768, 3072}}) {
    const std::int64_t m = std::min(shape[1], shape[2]);
    const TensorOptions options{DType::bf16, device};
    const double length = std::sqrt(static_cast<double>(shape[1] * shape[2]));
    const Tensor x = (randn(shape, {DType::f32, device}) * (1 / length)).to(DType::bf16);
    batches.push_back({x, empty(shape, options), empty({2 * shape[0] * m * m}, options)});
    const auto a = static_cast<double>(m), b = static_cast<double>(std::max(shape[1], shape[2]));
    flops += 5 * 12 * (4 * a * a * b + 2 * a * a * a);
  }
  for (const Impl<NewtonSchulz>& impl : KernelTable<NewtonSchulz>::instance().impls(device.type)) {
    const Seconds s = measure(device, {.iterations = 5}, [&](int) {
      for (const Batch& b : batches) {
        const NewtonSchulz::Forward args{.x = b.x.raw(), .out = b.out.raw(), .work = b.work.raw(), .steps = steps};
        if (impl.why_not == nullptr || impl.why_not(args, false) == nullptr) impl.forward(args, stream_of(device));
      }
    });
    report.add("newton_schulz_gpt2", std::string(impl.name) + ", operations counted in full", s,
               {{"tflops", 1e-12 * flops / s.median}});
  }
}

inline void optimizers(Report& report, Device device) {
  struct Size {
    const char* name;
    std::int64_t total;
    MeasureOptions options;
  };
  const Size sizes[] = {{"10m", 10'000'000, {.iterations = 50, .warm_up = 10}},
                        {"124m", 124'475'904, {.iterations = 10}},
                        {"1b", 1'000'000'000, {.iterations = 2, .runs = 10}}};
  constexpr std::int64_t kTensors = 150;
  for (const Size& size : sizes) {
    const auto p = parameters_with_gradients(size.total, kTensors, DType::f32, device);
    const double n = static_cast<double>(size.total / kTensors * kTensors);
    const auto run = [&]<class O>(const char* name, double bytes, O optimizer) {
      time_step(report, device, std::string(name) + "_" + size.name, "f32", *optimizer, {.bytes = bytes * n},
                size.options);
    };
    // Gradient read; parameter and moments read and written.
    run("adamw", 28, std::make_unique<optim::AdamW>(p, optim::AdamWOptions{.lr = 1e-5}));
    empty_cache(device);
    run("adam", 28, std::make_unique<optim::Adam>(p, optim::AdamOptions{.lr = 1e-5}));
    empty_cache(device);
    run("lion", 20, std::make_unique<optim::Lion>(p, optim::LionOptions{.lr = 1e-6}));
    empty_cache(device);
  }
  for (const std::int64_t tensors : {std::int64_t{16}, std::int64_t{10'000}}) {
    const std::int64_t size = sizes[1].total / tensors;
    const auto p = parameters_with_gradients(size * tensors, tensors, DType::f32, device);
    optim::AdamW optimizer(p, {.lr = 1e-5});
    time_step(report, device, "adamw_124m_in_" + std::to_string(tensors), "f32", optimizer,
              {.bytes = 28.0 * static_cast<double>(size * tensors), .eager = true}, {.iterations = 10});
  }
  empty_cache(device);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto p = hidden_matrices(dtype, device);
    optim::Muon muon(p, {.lr = 1e-4});
    time_step(report, device, "muon_gpt2", std::string(name(dtype)), muon, {.eager = true}, {.iterations = 5});
  }
  newton_schulz_kernels(report, device);
  empty_cache(device);
  const auto p = parameters_with_gradients(sizes[1].total, kTensors, DType::bf16, device);
  StepGraph norm(device, [&](const std::vector<Tensor>&) { return std::vector<Tensor>{optim::grad_norm_tensor(p)}; });
  const Seconds s = measure(device, {.iterations = 50}, [&](int) { static_cast<void>(norm()); });
  report.add("clip_norm_124m", "bf16 gradients, norm on the device; the step does the scaling", s,
             {{"gb_per_second", 1e-9 * 2 * static_cast<double>(sizes[1].total) / s.median}});
}

}  // namespace trinix::bench
