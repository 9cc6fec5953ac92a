#include "support/errors.h"
#include "support/on_device.h"

#include <cmath>
#include <gmock/gmock.h>

#include <trinix/core/error.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/ema.h>

namespace trinix::optim {
namespace {

using ::testing::HasSubstr;
using trinix::testing::message_of;

class EmaOnDevice : public trinix::testing::OnDevice {
 protected:
  static Tensor parameter(const Shape& shape, DType dtype, Generator& generator) {
    Tensor p = trinix::rand(shape, {DType::f64}, &generator).to(dtype).to(device());
    return p.requires_grad_();
  }
  static void change(const Tensor& p, Generator& generator) {
    const NoGrad no_grad;
    p.copy_(trinix::rand(p.shape(), {DType::f64}, &generator));
  }
};

TEST_P(EmaOnDevice, IsTheWeightedMeanOfItsFormula) {
  constexpr double decay = 0.8;
  for (const auto& [dtype, tolerance] : {std::pair{DType::f64, 1e-14}, {DType::f32, 1e-6}, {DType::bf16, 1e-6}}) {
    Generator generator(4);
    const std::vector<NamedTensor> parameters = {{"a", parameter({3, 50}, dtype, generator)},
                                                 {"b", parameter({20000}, dtype, generator)},
                                                 {"none", parameter({0}, dtype, generator)}};
    Ema ema(parameters, decay);
    std::vector<std::vector<double>> sums(2);
    double weights = 0;
    for (int t = 1; t <= 5; ++t) {
      weights = decay * weights + 1;
      for (std::size_t i = 0; i < 2; ++i) {
        change(parameters[i].tensor, generator);
        const auto values = parameters[i].tensor.to_doubles();
        sums[i].resize(values.size());
        for (std::size_t k = 0; k < values.size(); ++k) sums[i][k] = decay * sums[i][k] + values[k];
      }
      ema.update();
      const StateDict averages = ema.averages();
      for (std::size_t i = 0; i < 2; ++i) {
        const Tensor& average = averages.at(parameters[i].name);
        EXPECT_EQ(average.dtype(), compute_type(dtype));
        const auto values = average.to_doubles();
        double worst = 0;
        for (std::size_t k = 0; k < values.size(); ++k) {
          worst = std::max(worst, std::abs(values[k] - sums[i][k] / weights));
        }
        EXPECT_LT(worst, tolerance) << name(dtype) << " after update " << t;
      }
    }
    EXPECT_EQ(ema.updates(), 5);
  }
}

TEST_P(EmaOnDevice, AScopeShowsTheAveragesAndLeavesEverythingAsItWas) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Generator generator(5);
    const Tensor looked_at = parameter({40}, dtype, generator),
                 left_alone = looked_at.detach().clone().requires_grad_();
    AdamW one(std::vector<Tensor>{looked_at}, {.lr = 0.01}), other(std::vector<Tensor>{left_alone}, {.lr = 0.01});
    Ema ema({{"w", looked_at}}, 0.5);
    { const Ema::Scope nothing_yet(ema); }
    for (int step = 0; step < 4; ++step) {
      const Tensor gradient = trinix::rand({40}, {}, &generator).to(dtype).to(device());
      for (const Tensor& p : {looked_at, left_alone}) p.set_grad(gradient);
      one.step();
      other.step();
      ema.update();
      const auto before = looked_at.to_doubles();
      {
        const Ema::Scope averaged(ema);
        const Tensor average = ema.averages().at("w").to(dtype);
        EXPECT_EQ(looked_at.to_doubles(), average.to_doubles());
        if (step > 0) {
          EXPECT_NE(looked_at.to_doubles(), before);
        }
      }
      EXPECT_EQ(looked_at.to_doubles(), before);
      EXPECT_EQ(looked_at.to_doubles(), left_alone.to_doubles());
    }
    // Not even the digits of a master copy, which rounding hides, were lost.
    const StateDict a = one.state_dict(), b = other.state_dict();
    for (const auto& [key, value] : a) EXPECT_EQ(value.to_doubles(), b.at(key).to_doubles()) << key;
  }
}

TEST_P(EmaOnDevice, GoesOnBitForBitFromItsState) {
  Generator generator(6);
  const Tensor p = parameter({33}, DType::bf16, generator);
  Ema whole({{"w", p}}, 0.9);
  std::unique_ptr<Ema> parts = std::make_unique<Ema>(std::vector<NamedTensor>{{"w", p}}, 0.9);
  for (int i = 0; i < 6; ++i) {
    change(p, generator);
    whole.update();
    parts->update();
    const StateDict state = parts->state_dict().clone();
    parts = std::make_unique<Ema>(std::vector<NamedTensor>{{"w", p}}, 0.9);
    parts->load_state_dict(state);
  }
  EXPECT_EQ(parts->averages().at("w").to_doubles(), whole.averages().at("w").to_doubles());
}

TEST_P(EmaOnDevice, ACapturedStepUpdatesIt) {
  const auto run = [&](bool captured) {
    Generator generator(7);
    const Tensor p = parameter({64}, DType::f32, generator);
    Ema ema({{"w", p}}, 0.7);
    const StepGraph::Step step = [&](const std::vector<Tensor>& in) {
      const NoGrad no_grad;
      p.copy_(p.detach() * 0.5 + in[0]);
      ema.update();
      return std::vector<Tensor>{};
    };
    StepGraph graph(device(), step);
    for (int i = 0; i < 6; ++i) {
      const std::vector<Tensor> in = {trinix::rand({64}, {}, &generator).to(device())};
      captured ? static_cast<void>(graph(in)) : static_cast<void>(step(in));
    }
    EXPECT_EQ(ema.updates(), 6);
    return ema.averages().at("w").to_doubles();
  };
  EXPECT_EQ(run(true), run(false));
}

TEST_P(EmaOnDevice, Errors) {
  const Tensor p = ones({2}), q = ones({3});
  EXPECT_EQ(message_of<ConfigError>([&] { Ema({{"w", p}}, 1); }), "[Ema] decay is 1, but must lie between 0 and 1");
  EXPECT_THAT(message_of<ConfigError>([&] { Ema({}, 0.5); }), HasSubstr("no parameters"));
  EXPECT_THAT(message_of<ConfigError>([&] { Ema({{"w", p}, {"w", q}}, 0.5); }), HasSubstr("'w'"));
  EXPECT_THAT(message_of<DtypeError>([&] { Ema({{"ids", arange(3)}}, 0.5); }), HasSubstr("'ids' is i64"));
  Ema ema({{"w", p}}, 0.5);
  EXPECT_THAT(message_of<ConfigError>([&] { ema.copy_to_parameters(); }), HasSubstr("before the first update"));
  ema.update();
  const Ema other({{"w", q}}, 0.5), more({{"w", p}, {"v", q}}, 0.5);
  EXPECT_THAT(message_of<ConfigError>([&] { ema.load_state_dict(other.state_dict()); }),
              HasSubstr("the average of 'w' is [3] f32 in the state, but the parameter has the shape [2]"));
  EXPECT_THAT(message_of<ConfigError>([&] { ema.load_state_dict(more.state_dict()); }), HasSubstr("2 averages"));
  EXPECT_THAT(message_of<ConfigError>([&] { ema.load_state_dict({}); }), HasSubstr("'updates'"));
  EXPECT_EQ(ema.updates(), 1);
}

INSTANTIATE_TEST_SUITE_P(Devices, EmaOnDevice, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
