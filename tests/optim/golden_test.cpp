// Optimizer and clipping against PyTorch.
#include "support/golden.h"

#include "support/compare.h"
#include "support/on_device.h"

#include <gtest/gtest.h>
#include <map>

#include <trinix/autograd/ops.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>

namespace trinix::optim {
namespace {

using trinix::testing::largest_difference;

class GoldenOnDevice : public trinix::testing::OnDevice {};

TEST_P(GoldenOnDevice, TenStepsOfAdamW) {
  const StateDict values = trinix::testing::golden("adamw");
  for (const auto& [dtype, tolerance] : {std::pair{DType::f64, 1e-14}, {DType::f32, 2e-6}}) {
    std::map<std::string, Tensor> parameters;
    for (const std::string key : {"matrix", "odd", "late", "scalar"}) {
      Tensor p = values.at(key + ".start").to(dtype).clone().to(device());
      parameters[key] = p.requires_grad_();
    }
    const AdamWOptions options{.lr = 3e-3, .betas = {0.9, 0.99}, .eps = 1e-6, .weight_decay = 0.1};
    AdamWOptions plain = options;
    plain.weight_decay = 0;
    plain.betas = {0.8, 0.95};
    AdamW optimizer({{{{"matrix", parameters["matrix"]}, {"late", parameters["late"]}}, options},
                     {{{"odd", parameters["odd"]}, {"scalar", parameters["scalar"]}}, plain}});
    for (int step = 0; step < 10; ++step) {
      for (const auto& [key, p] : parameters) {
        const Tensor* gradient = values.find(key + ".grad." + std::to_string(step));
        if (gradient != nullptr) p.set_grad(gradient->to(dtype).to(device()));
      }
      optimizer.step();
      for (const auto& [key, p] : parameters) {
        const Tensor& wanted = values.at(key + ".after." + std::to_string(step));
        EXPECT_LT(largest_difference(p.detach(), wanted), tolerance) << key << " after step " << step;
      }
    }
    const StateDict state = optimizer.state_dict();
    for (const auto& [key, p] : parameters) {
      for (const std::string what : {".exp_avg", ".exp_avg_sq"}) {
        const Tensor& wanted = values.at(key + what);
        EXPECT_LT(largest_difference(state.at("state." + key + what), wanted),
                  tolerance * (1 + max(abs(wanted)).item<double>()))
            << key << what;
      }
    }
    EXPECT_EQ(state.at("state.late.step").item<std::int64_t>(), 7);
  }
}

TEST_P(GoldenOnDevice, ClippingByNorm) {
  const StateDict values = trinix::testing::golden("clipping");
  std::vector<Tensor> parameters;
  for (const std::string key : {"0", "1", "2"}) {
    Tensor p = zeros_like(values.at(key + ".grad")).to(device());
    p.requires_grad_();
    p.set_grad(values.at(key + ".grad").to(device()));
    parameters.push_back(p);
  }
  EXPECT_NEAR(clip_grad_norm_(parameters, 1.5), values.at("norm").item<double>(), 1e-12);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    EXPECT_LT(largest_difference(parameters[i].grad(), values.at(std::to_string(i) + ".clipped")), 1e-15);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, GoldenOnDevice, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
