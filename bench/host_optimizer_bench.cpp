// Steps of the optimizers on the CPU, as bench/peers/torch_host_optimizers.py times them in PyTorch.
//
//   bench_host_optimizer [THREADS ...]
//
// AdamW over 124 million f32 parameters in 150 tensors, Muon over the 48 hidden matrices of GPT-2 124M in f32.
#include "measure.h"

#include <cstdlib>
#include <string>
#include <vector>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/core/threads.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/muon.h>

namespace {

using namespace trinix;

constexpr std::int64_t kTensors = 150;
constexpr std::int64_t kSize = 124'475'904 / kTensors;

Tensor with_gradient(const Shape& shape) {
  Tensor p = (randn(shape) * 0.02).detach();
  p.requires_grad_();
  p.set_grad(randn(shape));
  return p;
}

void adamw(bench::Report& report, const std::string& threads) {
  std::vector<Tensor> p;
  for (std::int64_t i = 0; i < kTensors; ++i) p.push_back(with_gradient({kSize}));
  optim::AdamW optimizer(p, {.lr = 1e-5});
  const bench::Seconds s = bench::measure(Device::cpu(), {.warm_up = 1, .runs = 15}, [&](int) { optimizer.step(); });
  // Gradient read; parameter and moments read and written.
  report.add("adamw_124m_host", threads, s, {{"gb_per_second", 28e-9 * kSize * kTensors / s.median}});
}

void muon(bench::Report& report, const std::string& threads) {
  std::vector<Tensor> p;
  for (int layer = 0; layer < 12; ++layer) {
    for (const Shape& shape : {Shape{2304, 768}, Shape{768, 768}, Shape{3072, 768}, Shape{768, 3072}}) {
      p.push_back(with_gradient(shape));
    }
  }
  optim::Muon optimizer(p, {.lr = 1e-4});
  report.add("muon_gpt2_host", threads,
             bench::measure(Device::cpu(), {.warm_up = 1, .runs = 3}, [&](int) { optimizer.step(); }));
}

}  // namespace

int main(int argc, char** argv) {
  bench::Report report;
  for (int i = 1; i < argc || i == 1; ++i) {
    const std::string threads = i < argc ? argv[i] : "2";
    set_num_threads(std::atoi(threads.c_str()));
    adamw(report, threads + " threads");
    muon(report, threads + " threads");
  }
  return 0;
}
