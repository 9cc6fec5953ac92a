#include "support/errors.h"
#include "support/on_device.h"

#include <cmath>
#include <gmock/gmock.h>
#include <limits>

#include <trinix/core/error.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>
#include <trinix/optim/grad_scaler.h>

namespace trinix::optim {
namespace {

using ::testing::HasSubstr;
using trinix::testing::message_of;

class GradScalerOnDevice : public trinix::testing::OnDevice {
 protected:
  static double scale_of(const GradScaler& scaler) { return scaler.current().item<double>(); }
  static Tensor norm(double value) { return full({}, value, {DType::f64}); }
};

TEST_P(GradScalerOnDevice, GrowsAndBacksOffAsPyTorchs) {
  const GradScaler scaler(device(), {.init_scale = 16, .growth_interval = 3});
  // torch.amp.GradScaler counts an overflow as the start of a new interval, too.
  const double norms[] = {1, 2, 3, 4, INFINITY, 5, 6, NAN, NAN, 7, 8, 9};
  const double scales[] = {16, 16, 32, 32, 16, 16, 16, 8, 4, 4, 4, 8};
  const std::int64_t skipped[] = {0, 0, 0, 0, 1, 0, 0, 1, 2, 0, 0, 0};
  for (int i = 0; i < 12; ++i) {
    scaler.update(norm(norms[i]));
    EXPECT_EQ(scale_of(scaler), scales[i]) << "after update " << i;
    EXPECT_EQ(scaler.inverse().item<double>(), 1 / scales[i]);
    EXPECT_EQ(scaler.skipped_in_row().item<std::int64_t>(), skipped[i]);
  }
}

TEST_P(GradScalerOnDevice, StaysWithinTheRangeOfF32) {
  const GradScaler up(device(), {.init_scale = 0x1p125, .growth_interval = 1}),
      down(device(), {.init_scale = 0x1p-125});
  for (int i = 0; i < 3; ++i) {
    up.update(norm(1));
    down.update(norm(INFINITY));
  }
  EXPECT_EQ(scale_of(up), 0x1p126);
  EXPECT_EQ(scale_of(down), 0x1p-126);
  EXPECT_EQ(down.inverse().item<double>(), 0x1p126);
}

TEST_P(GradScalerOnDevice, AScaledStepIsThePlainOneAndABadOneIsNone) {
  Generator generator(2);
  const Tensor start = trinix::rand({30}, {}, &generator).to(device());
  Tensor scaled = start.clone().requires_grad_(), plain = start.clone().requires_grad_();
  AdamW one(std::vector<Tensor>{scaled}, {.lr = 0.01}), other(std::vector<Tensor>{plain}, {.lr = 0.01});
  const GradScaler scaler(device(), {.init_scale = 1024});
  for (int step = 0; step < 6; ++step) {
    const bool bad = step == 3;
    const Tensor x = trinix::rand({30}, {}, &generator).to(device());
    const auto loss = [&](const Tensor& w) { return sum(square(w * x)) * (bad ? INFINITY : 1.0); };
    one.zero_grad();
    scaler.scale(loss(scaled)).backward();
    const Tensor n = grad_norm_tensor({scaled});
    const auto before = scaled.to_doubles();
    one.step({.inverse_scale = scaler.inverse(), .norm = n, .max_norm = 0.5});
    scaler.update(n);
    other.zero_grad();
    loss(plain).backward();
    other.step({.norm = grad_norm_tensor({plain}), .max_norm = 0.5});
    if (bad) {
      EXPECT_EQ(scaled.to_doubles(), before);
      EXPECT_EQ(scale_of(scaler), 512);
    }
    // Powers of two cost no digits, and both optimizers count the step that was skipped.
    EXPECT_EQ(scaled.to_doubles(), plain.to_doubles()) << "after step " << step;
  }
}

TEST_P(GradScalerOnDevice, ACapturedStepFollowsTheScale) {
  const auto run = [&](bool captured) {
    Tensor w = full({8}, 0.5, {DType::f16});
    w.requires_grad_();
    AdamW optimizer(std::vector<Tensor>{w}, {.lr = 0.01});
    const GradScaler scaler(device(), {.init_scale = 65536, .growth_interval = 3});
    const StepGraph::Step step = [&](const std::vector<Tensor>& in) {
      optimizer.zero_grad();
      const Tensor loss = mean((w * in[0]).to(DType::f32));
      scaler.scale(loss).backward();
      const Tensor n = grad_norm_tensor({w});
      optimizer.step({.inverse_scale = scaler.inverse(), .norm = n});
      const Tensor scale = scaler.current().clone();
      scaler.update(n);
      return std::vector<Tensor>{scale, n};
    };
    StepGraph graph(device(), step);
    std::vector<double> all;
    for (int i = 0; i < 14; ++i) {
      // Now and then an input with which 65536 is too much.
      const std::vector<Tensor> in = {full({8}, i % 5 == 1 ? 60.0 : 1.0, {DType::f16})};
      const std::vector<Tensor> out = captured ? graph(in) : step(in);
      all.push_back(out[0].item<double>());
      for (const double value : w.to_doubles()) all.push_back(value);
    }
    EXPECT_GT(optimizer.skipped().item<std::int64_t>(), 0);
    return all;
  };
  EXPECT_EQ(run(true), run(false));
}

TEST_P(GradScalerOnDevice, AHundredSkippedStepsAreAnError) {
  const GradScaler scaler(device());
  for (int i = 0; i < 99; ++i) scaler.update(norm(NAN));
  EXPECT_NO_THROW(scaler.check());
  scaler.update(norm(NAN));
  EXPECT_THAT(message_of<AutogradError>([&] { scaler.check(); }),
              HasSubstr("[GradScaler] 100 steps in a row were skipped because their gradients were not finite"));
  scaler.update(norm(1));
  EXPECT_NO_THROW(scaler.check());
}

TEST_P(GradScalerOnDevice, GoesOnFromItsState) {
  const GradScaler one(device(), {.init_scale = 64, .growth_interval = 4}), other(device(), {.growth_interval = 4});
  for (const double n : {1.0, 2.0, 3.0}) one.update(norm(n));
  other.load_state_dict(one.state_dict().clone());
  for (const GradScaler* scaler : {&one, &other}) scaler->update(norm(4));
  EXPECT_EQ(scale_of(one), 128);
  EXPECT_EQ(scale_of(other), 128);
  EXPECT_THAT(message_of<ConfigError>([&] { other.load_state_dict({}); }), HasSubstr("'scale'"));
  StateDict bad = one.state_dict().clone();
  bad.at("scale").copy_(full({}, NAN));
  EXPECT_THAT(message_of<ConfigError>([&] { other.load_state_dict(bad); }), HasSubstr("a scale of nan"));
  EXPECT_EQ(scale_of(other), 128);
}

TEST_P(GradScalerOnDevice, Errors) {
  EXPECT_THAT(message_of<ConfigError>([] { GradScaler(device(), {.init_scale = 0}); }), HasSubstr("init_scale is 0"));
  EXPECT_THAT(message_of<ConfigError>([] { GradScaler(device(), {.growth_factor = 1}); }), HasSubstr("growth_factor"));
  EXPECT_THAT(message_of<ConfigError>([] { GradScaler(device(), {.backoff_factor = 1}); }),
              HasSubstr("backoff_factor"));
  EXPECT_THAT(message_of<ConfigError>([] { GradScaler(device(), {.growth_interval = 0}); }), HasSubstr("at least 1"));
  const GradScaler scaler(device());
  EXPECT_THAT(message_of<DtypeError>([&] { scaler.update(full({}, 1, {DType::f32})); }), HasSubstr("must be f64"));
  EXPECT_THAT(message_of<ShapeError>([&] { scaler.update(zeros({2}, {DType::f64})); }), HasSubstr("not one number"));
}

INSTANTIATE_TEST_SUITE_P(Devices, GradScalerOnDevice, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
