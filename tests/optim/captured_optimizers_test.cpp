// Every optimizer within a captured step: the same numbers as eager steps, bit for bit, while learning rate and other
// options change. What StepGraph itself does is in step_graph_test.cpp.
#include "support/on_device.h"

#include <functional>
#include <gtest/gtest.h>

#include <trinix/optim/adam.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>
#include <trinix/optim/lion.h>
#include <trinix/optim/muon.h>
#include <trinix/optim/sgd.h>

namespace trinix::optim {
namespace {

/// A layer without and one with a vector, in training.
struct Trainee {
  using Make = std::function<std::unique_ptr<Optimizer>(const std::vector<NamedTensor>&)>;

  Trainee(Device device, DType dtype, const Make& make) {
    Generator start(3);
    const auto parameter = [&](const char* name, const Shape& shape) {
      Tensor p = (trinix::rand(shape, {}, &start) - 0.5).to(dtype).to(device).detach();
      parameters.push_back({name, p.requires_grad_()});
    };
    parameter("w1", {24, 16});
    parameter("w2", {8, 24});
    parameter("b2", {8});
    inverse_scale = full({}, 0.25, {DType::f32, device});
    optimizer = make(parameters);
  }

  std::vector<Tensor> step(const std::vector<Tensor>& in) {
    optimizer->zero_grad();
    const Tensor hidden = gelu(linear(in[0], parameters[0].tensor, Tensor()));
    const Tensor error = linear(hidden, parameters[1].tensor, parameters[2].tensor) - in[1];
    const Tensor loss = mean(error * error);
    (loss * 4).backward();
    const Tensor norm = grad_norm_tensor(optimizer->parameters());
    optimizer->step({.inverse_scale = inverse_scale, .norm = norm, .max_norm = 0.5, .clip_value = 0.1});
    return {loss.detach(), norm};
  }

  std::vector<NamedTensor> parameters;
  Tensor inverse_scale;
  std::unique_ptr<Optimizer> optimizer;
};

template <class O, class Options>
Trainee::Make trainee_maker(const Options& options) {
  return [options](const std::vector<NamedTensor>& p) { return std::make_unique<O>(p, options); };
}

Trainee::Make with_adamw(const MuonOptions& options) {
  return [options](const std::vector<NamedTensor>& p) {
    return std::make_unique<OptimizerList>(muon_with_adamw(p, options, {.lr = 0.01}));
  };
}

class CapturedOptimizers : public trinix::testing::OnDevice {
 protected:
  void SetUp() override { set_deterministic(true); }
  void TearDown() override { set_deterministic(false); }
};

TEST_P(CapturedOptimizers, MakeTheStepsOfEagerMode) {
  const StateOptions random{.master_weights = false, .stochastic_rounding = true};
  const std::vector<std::pair<const char*, Trainee::Make>> kinds = {
      {"AdamW", trainee_maker<AdamW>(AdamWOptions{.lr = 0.01, .state = {.bf16_first_moment = true}})},
      {"AdamW without master", trainee_maker<AdamW>(AdamWOptions{.lr = 0.01, .state = random})},
      {"Adam", trainee_maker<Adam>(AdamOptions{.lr = 0.01, .weight_decay = 0.1, .amsgrad = true})},
      {"Lion", trainee_maker<Lion>(LionOptions{.lr = 0.001})},
      {"SGD", trainee_maker<SGD>(SGDOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.2})},
      {"plain SGD", trainee_maker<SGD>(SGDOptions{.lr = 0.05})},
      {"Muon", with_adamw({.lr = 0.02})},
      {"Muon without master", with_adamw({.lr = 0.02, .state = random})},
  };
  for (const auto& [what, make] : kinds) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      Trainee eager(device(), dtype, make), captured(device(), dtype, make);
      StepGraph graph(device(), [&](const std::vector<Tensor>& in) { return captured.step(in); });
      for (std::int64_t i = 0; i < 8; ++i) {
        Generator generator(100 + static_cast<std::uint64_t>(i));
        const std::vector<Tensor> batch = {trinix::rand({12, 16}, {}, &generator).to(dtype).to(device()),
                                           trinix::rand({12, 8}, {}, &generator).to(dtype).to(device())};
        for (Trainee* t : {&eager, &captured}) t->optimizer->set_lr(0.01 / static_cast<double>(1 + i));
        static_cast<void>(graph(batch));
        static_cast<void>(eager.step(batch));
        for (std::size_t k = 0; k < eager.parameters.size(); ++k) {
          EXPECT_EQ(captured.parameters[k].tensor.to_doubles(), eager.parameters[k].tensor.to_doubles())
              << what << " " << name(dtype) << ", parameter " << k << " after step " << i;
        }
      }
      EXPECT_EQ(graph.is_captured(), !device().is_cpu()) << what;
      const StateDict x = captured.optimizer->state_dict(), y = eager.optimizer->state_dict();
      for (const auto& [key, value] : x) EXPECT_EQ(value.to_doubles(), y.at(key).to_doubles()) << what << " " << key;
    }
  }
}

TEST_P(CapturedOptimizers, FollowOptionsThatChangeAfterTheCapture) {
  const auto make = trainee_maker<SGD>(SGDOptions{.lr = 0.05});
  Trainee eager(device(), DType::f32, make), captured(device(), DType::f32, make);
  StepGraph graph(device(), [&](const std::vector<Tensor>& in) { return captured.step(in); });
  const std::vector<Tensor> batch = {ones({12, 16}), zeros({12, 8})};
  for (int i = 0; i < 9; ++i) {
    if (i == 5) {
      // Another kernel and more state: the step is made eagerly again, then captured anew.
      for (Trainee* t : {&eager, &captured}) static_cast<SGD&>(*t->optimizer).options(0).momentum = 0.9;
    }
    static_cast<void>(graph(batch));
    static_cast<void>(eager.step(batch));
    for (std::size_t k = 0; k < eager.parameters.size(); ++k) {
      EXPECT_EQ(captured.parameters[k].tensor.to_doubles(), eager.parameters[k].tensor.to_doubles()) << "step " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, CapturedOptimizers, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

TEST(CapturedOptimizersOnCuda, AreTestedWhereThereIsACard) {
  if (!is_available(Device::cuda())) GTEST_SKIP() << "no CUDA card here: captured optimizers were tested eagerly only";
}

}  // namespace
}  // namespace trinix::optim
