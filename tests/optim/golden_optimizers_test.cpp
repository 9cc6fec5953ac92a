// Ten steps of every optimizer but AdamW (golden_test.cpp) against PyTorch; Lion against its paper's formula.
#include "support/compare.h"
#include "support/golden.h"
#include "support/on_device.h"

#include <functional>
#include <gtest/gtest.h>
#include <memory>

#include <trinix/autograd/ops.h>
#include <trinix/optim/adam.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/lion.h>
#include <trinix/optim/muon.h>
#include <trinix/optim/sgd.h>

namespace trinix::optim {
namespace {

using Make = std::function<std::unique_ptr<Optimizer>(const std::vector<NamedTensor>&)>;

/// A column of the golden file and the optimizer that made it.
struct Case {
  const char* name;
  Make make;
  std::vector<std::string> tensors;
  std::vector<std::string> state;
};

template <class O, class Options>
Make maker(const Options& options) {
  return [options](const std::vector<NamedTensor>& parameters) { return std::make_unique<O>(parameters, options); };
}

using trinix::testing::largest_difference;

class GoldenOptimizers : public trinix::testing::OnDevice {
 protected:
  struct Trained {
    std::vector<NamedTensor> parameters;
    std::unique_ptr<Optimizer> optimizer;
  };

  /// Makes the ten steps, and calls look(step, parameters) after each.
  template <class Look>
  static Trained train(const StateDict& values, const Case& c, DType dtype, Look&& look) {
    Trained t;
    for (const std::string& key : c.tensors) {
      Tensor p = values.at(key + ".start").to(dtype).clone().to(device());
      t.parameters.push_back({key, p.requires_grad_()});
    }
    t.optimizer = c.make(t.parameters);
    for (int step = 0; step < 10; ++step) {
      for (const auto& [key, p] : t.parameters) {
        p.set_grad(values.at(key + ".grad." + std::to_string(step)).to(dtype).to(device()));
      }
      t.optimizer->step();
      look(step, t.parameters);
    }
    return t;
  }

  static void check(const Case& c, DType dtype, double tolerance) {
    const StateDict values = trinix::testing::golden("optimizers");
    const std::string prefix = std::string(c.name) + ".";
    const Trained t = train(values, c, dtype, [&](int step, const std::vector<NamedTensor>& parameters) {
      for (const auto& [key, p] : parameters) {
        EXPECT_LT(largest_difference(p, values.at(prefix + key + ".after." + std::to_string(step))), tolerance)
            << c.name << " " << key << " after step " << step;
      }
    });
    const StateDict state = t.optimizer->state_dict();
    for (const auto& [key, p] : t.parameters) {
      for (const std::string& what : c.state) {
        const Tensor& wanted = values.at(prefix + key + "." + what);
        EXPECT_LT(largest_difference(state.at("state." + key + "." + what), wanted),
                  tolerance * (1 + max(abs(wanted)).item<double>()))
            << c.name << " " << key << " " << what;
      }
    }
  }
};

TEST_P(GoldenOptimizers, ElementwiseOnes) {
  const std::vector<std::string> tensors = {"vector", "wide"};
  const std::vector<Case> cases = {
      {"adam",
       maker<Adam>(AdamOptions{.lr = 3e-3, .betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.1}),
       tensors,
       {"exp_avg", "exp_avg_sq"}},
      {"adam_amsgrad",
       maker<Adam>(AdamOptions{.lr = 3e-3, .betas = {0.8, 0.7}, .amsgrad = true, .maximize = true}),
       tensors,
       {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}},
      {"adamw_amsgrad",
       maker<AdamW>(AdamWOptions{.lr = 3e-3, .betas = {0.8, 0.7}, .weight_decay = 0.1, .amsgrad = true}),
       tensors,
       {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}},
      {"sgd", maker<SGD>(SGDOptions{.lr = 0.01, .weight_decay = 0.1}), tensors, {}},
      {"sgd_momentum",
       maker<SGD>(SGDOptions{.lr = 0.01, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.1, .maximize = true}),
       tensors,
       {"momentum_buffer"}},
      {"sgd_nesterov",
       maker<SGD>(SGDOptions{.lr = 0.01, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true}),
       tensors,
       {"momentum_buffer"}},
      {"lion", maker<Lion>(LionOptions{.lr = 0.01, .weight_decay = 0.1}), tensors, {"exp_avg"}},
  };
  for (const Case& c : cases) {
    check(c, DType::f64, 1e-13);
    check(c, DType::f32, 1e-5);
  }
}

const std::vector<std::string> kMatrices = {"wide", "tall", "square"};

TEST_P(GoldenOptimizers, MuonInDoublePrecision) {
  check({"muon", maker<Muon>(MuonOptions{.lr = 0.02}), kMatrices, {"momentum_buffer"}}, DType::f64, 1e-12);
  const MuonOptions rms{
      .weight_decay = 0.2, .momentum = 0.9, .nesterov = false, .ns_steps = 4, .scale = MuonScale::match_rms_adamw};
  check({"muon_rms", maker<Muon>(rms), kMatrices, {"momentum_buffer"}}, DType::f64, 1e-12);
}

/// In f32 the iteration runs in f32 on the CPU and in bf16 on CUDA; PyTorch's always runs in bf16. Two bf16 iterations
/// differ by their rounding: the root mean square of the difference over ten steps of lr 0.02 stays small
/// against the path of 0.2. It comes to 0.0007 where every product is rounded once.
TEST_P(GoldenOptimizers, MuonAsPyTorchRunsIt) {
  const StateDict values = trinix::testing::golden("optimizers");
  const Case muon = {"muon_bf16", maker<Muon>(MuonOptions{.lr = 0.02}), kMatrices, {}};
  for (const DType dtype : {DType::f32, DType::f64}) {
    train(values, muon, dtype, [&](int step, const std::vector<NamedTensor>& parameters) {
      for (const auto& [key, p] : parameters) {
        const Tensor wanted = values.at("muon_bf16." + key + ".after." + std::to_string(step));
        const Tensor difference = p.detach().to(DType::f64).to(Device::cpu()) - wanted;
        const double rms = sqrt(mean(difference * difference)).item<double>();
        EXPECT_LT(rms, 1e-3) << key << " after step " << step;
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, GoldenOptimizers, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
