// What all optimizers have in common, each of them tried: resuming, scaling and bounding gradients, types of state,
// errors. Formulas are in golden_optimizers_test.cpp.
#include "support/errors.h"
#include "support/on_device.h"

#include <cmath>
#include <functional>
#include <gmock/gmock.h>

#include <trinix/core/error.h>
#include <trinix/optim/adam.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>
#include <trinix/optim/lion.h>
#include <trinix/optim/muon.h>
#include <trinix/optim/sgd.h>

namespace trinix::optim {
namespace {

using ::testing::HasSubstr;
using trinix::testing::message_of;

/// An optimizer with the given types of state.
struct Kind {
  const char* name;
  std::function<std::unique_ptr<Optimizer>(const std::vector<NamedTensor>&, const StateOptions&)> make;
};

template <class O, class Options>
Kind kind(const char* name, Options options) {
  return {name, [options](const std::vector<NamedTensor>& parameters, const StateOptions& state) mutable {
            options.state = state;
            return std::make_unique<O>(parameters, options);
          }};
}

std::vector<Kind> kinds() {
  return {kind<AdamW>("AdamW", AdamWOptions{.lr = 0.01, .weight_decay = 0.1}),
          kind<Adam>("Adam", AdamOptions{.lr = 0.01, .weight_decay = 0.1}),
          kind<Adam>("AMSGrad", AdamOptions{.lr = 0.01, .betas = {0.9, 0.5}, .amsgrad = true}),
          kind<Lion>("Lion", LionOptions{.lr = 0.003, .weight_decay = 0.1}),
          kind<SGD>("SGD", SGDOptions{.lr = 0.05}),
          kind<SGD>("SGD with momentum", SGDOptions{.lr = 0.05, .momentum = 0.9, .nesterov = true}),
          kind<Muon>("Muon", MuonOptions{.lr = 0.02}),
          kind<Muon>("Muon in blocks", MuonOptions{.lr = 0.02, .fused_qkv = FusedQkv::blocks})};
}

class Optimizers : public trinix::testing::OnDevice {
 protected:
  static Tensor noise(const Shape& shape, std::uint64_t seed) {
    Generator generator(seed);
    return (trinix::rand(shape, {}, &generator) - 0.5).to(device());
  }
  /// Two matrices, the second a fused projection.
  static std::vector<NamedTensor> parameters(DType dtype) {
    std::vector<NamedTensor> list = {{"w", noise({13, 20}, 1).to(dtype)}, {"attn.c_attn.weight", noise({18, 6}, 2)}};
    for (NamedTensor& p : list) {
      p.tensor = p.tensor.to(dtype).detach();
      p.tensor.requires_grad_();
    }
    return list;
  }
  static void set_gradients(const std::vector<NamedTensor>& list, int step, double scale = 1) {
    for (std::size_t k = 0; k < list.size(); ++k) {
      const Tensor& p = list[k].tensor;
      const auto seed = 100 + 10 * static_cast<std::uint64_t>(step) + k;
      p.set_grad((noise(p.shape(), seed) * scale).to(p.dtype()));
    }
  }
  static void train(Optimizer& optimizer, const std::vector<NamedTensor>& list, int from, int to) {
    for (int step = from; step < to; ++step) {
      set_gradients(list, step);
      optimizer.step();
    }
  }
  static std::vector<std::vector<double>> values(const std::vector<NamedTensor>& list) {
    std::vector<std::vector<double>> all;
    for (const NamedTensor& p : list) all.push_back(p.tensor.to_doubles());
    return all;
  }
};

TEST_P(Optimizers, ResumeBitForBitAfterFiveSteps) {
  const std::vector<StateOptions> states = {
      {}, {.bf16_first_moment = true}, {.master_weights = false, .stochastic_rounding = true, .seed = 5}};
  for (const Kind& k : kinds()) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const StateOptions& state : states) {
        const auto whole = parameters(dtype), half = parameters(dtype), rest = parameters(dtype);
        const auto uninterrupted = k.make(whole, state), before = k.make(half, state), after = k.make(rest, state);
        train(*uninterrupted, whole, 0, 10);
        train(*before, half, 0, 5);
        {
          const NoGrad no_grad;
          for (std::size_t i = 0; i < half.size(); ++i) rest[i].tensor.copy_(half[i].tensor);
        }
        after->load_state_dict(before->state_dict());
        train(*after, rest, 5, 10);
        EXPECT_EQ(values(rest), values(whole)) << k.name << " " << name(dtype);
        const StateDict x = after->state_dict(), y = uninterrupted->state_dict();
        for (const auto& [key, tensor] : y) EXPECT_EQ(x.at(key).to_doubles(), tensor.to_doubles()) << key;
      }
    }
  }
}

TEST_P(Optimizers, TakeBackTheScaleOfALossOnTheDevice) {
  const Tensor inverse = full({}, 1.0 / 1024);
  for (const Kind& k : kinds()) {
    const auto plain = parameters(DType::f32), scaled = parameters(DType::f32);
    const auto a = k.make(plain, {}), b = k.make(scaled, {});
    for (int step = 0; step < 3; ++step) {
      set_gradients(plain, step);
      a->step({.norm = grad_norm_tensor(a->parameters()), .max_norm = 1});
      set_gradients(scaled, step, 1024);
      b->step({.inverse_scale = inverse, .norm = grad_norm_tensor(b->parameters()), .max_norm = 1});
    }
    const auto x = values(plain), y = values(scaled);
    for (std::size_t i = 0; i < x.size(); ++i) {
      for (std::size_t e = 0; e < x[i].size(); ++e) EXPECT_NEAR(x[i][e], y[i][e], 1e-6) << k.name;
    }
  }
}

TEST_P(Optimizers, BoundEveryElementOfTheGradient) {
  for (const Kind& k : kinds()) {
    const auto here = parameters(DType::f64), there = parameters(DType::f64);
    const auto a = k.make(here, {}), b = k.make(there, {});
    for (int step = 0; step < 3; ++step) {
      set_gradients(here, step);
      a->step({.grad_scale = 2, .clip_value = 0.4});
      set_gradients(there, step, 2);
      clip_grad_value_(b->parameters(), 0.4);
      b->step();
    }
    const auto x = values(here), y = values(there);
    for (std::size_t i = 0; i < x.size(); ++i) {
      for (std::size_t e = 0; e < x[i].size(); ++e) EXPECT_NEAR(x[i][e], y[i][e], 1e-12) << k.name;
    }
  }
}

TEST_P(Optimizers, LeaveEverythingAloneWhenTheNormIsNotFinite) {
  for (const Kind& k : kinds()) {
    const auto list = parameters(DType::bf16);
    const auto optimizer = k.make(list, {});
    train(*optimizer, list, 0, 1);
    const auto before = values(list);
    const StateDict state = optimizer->state_dict().clone();
    set_gradients(list, 1);
    list[1].tensor.set_grad(full({18, 6}, std::nan(""), {DType::bf16}));
    optimizer->step({.norm = grad_norm_tensor(optimizer->parameters()), .max_norm = 1});
    EXPECT_EQ(values(list), before) << k.name;
    for (const auto& [key, tensor] : optimizer->state_dict()) {
      if (key.ends_with(".step")) continue;
      EXPECT_EQ(tensor.to_doubles(), state.at(key).to_doubles()) << k.name << " " << key;
    }
    EXPECT_EQ(optimizer->skipped().item<std::int64_t>(), 1) << k.name;
  }
}

TEST_P(Optimizers, KeepTheFirstMomentInSixteenBitsOnRequest) {
  for (const Kind& k : kinds()) {
    const auto narrow = parameters(DType::f32), wide = parameters(DType::f32);
    const auto a = k.make(narrow, {.bf16_first_moment = true}), b = k.make(wide, {});
    train(*a, narrow, 0, 5);
    train(*b, wide, 0, 5);
    const StateDict state = a->state_dict();
    for (const char* what : {"exp_avg", "momentum_buffer"}) {
      const Tensor* moment = state.find(std::string("state.w.") + what);
      EXPECT_TRUE(moment == nullptr || moment->dtype() == DType::bf16) << k.name;
    }
    const Tensor* second = state.find("state.w.exp_avg_sq");
    EXPECT_TRUE(second == nullptr || second->dtype() == DType::f32) << k.name;
    // A sign may turn where Lion's moment nearly cancels; otherwise the paths stay close.
    double squares = 0, count = 0;
    const auto x = values(narrow), y = values(wide);
    for (std::size_t i = 0; i < x.size(); ++i) {
      for (std::size_t e = 0; e < x[i].size(); ++e) {
        squares += (x[i][e] - y[i][e]) * (x[i][e] - y[i][e]);
        ++count;
      }
    }
    EXPECT_LT(std::sqrt(squares / count), 2e-3) << k.name;
  }
}

TEST_P(Optimizers, StochasticRoundingMovesOnAverage) {
  // Steps of 1e-4 from 1, where bf16 has steps of 1/128 upwards and 1/256 downwards.
  const std::int64_t n = 20000;
  const auto move = [&](std::uint64_t seed) {
    Tensor p = ones({n}, {DType::bf16});
    p.requires_grad_();
    SGD sgd({{"p", p}}, {.lr = 1e-4, .state = {.master_weights = false, .stochastic_rounding = true, .seed = seed}});
    for (int step = 0; step < 20; ++step) {
      p.set_grad(ones({n}, {DType::bf16}));
      sgd.step();
    }
    return p.to_doubles();
  };
  const auto once = move(1);
  double mean = 0;
  for (const double v : once) mean += v / static_cast<double>(n);
  // Expected 1 - 20e-4; a step goes down by 1/256 with probability 0.0256, so the mean has a deviation of 2e-5.
  EXPECT_NEAR(mean, 0.998, 1e-4);
  EXPECT_EQ(once, move(1));
  EXPECT_NE(once, move(2));
  // The same numbers on every device.
  const Tensor on_cpu = trinix::ones({n}, {DType::bf16});
  Tensor q = on_cpu.detach();
  q.requires_grad_();
  SGD sgd({{"p", q}}, {.lr = 1e-4, .state = {.master_weights = false, .stochastic_rounding = true, .seed = 1}});
  for (int step = 0; step < 20; ++step) {
    q.set_grad(trinix::ones({n}, {DType::bf16}));
    sgd.step();
  }
  EXPECT_EQ(once, q.to_doubles());
}

TEST_P(Optimizers, StepWithAClosure) {
  const Tensor p = ones({2, 2}).requires_grad_();
  SGD sgd({{"p", p}}, {.lr = 0.5});
  int calls = 0;
  const Tensor loss = sgd.step([&] {
    ++calls;
    sgd.zero_grad();
    const Tensor value = sum(p * p);
    value.backward();
    return value.detach();
  });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(loss.item<float>(), 4);
  EXPECT_THAT(p.to_doubles(), ::testing::Each(0.0));
}

TEST_P(Optimizers, AgreeWithTheCpu) {
  for (const Kind& k : kinds()) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      const bool orthogonalised = std::string(k.name).starts_with("Muon");
      if (orthogonalised && dtype != DType::f64) continue;  // other dtypes iterate in other precision there
      const auto here = parameters(dtype);
      std::vector<NamedTensor> there;
      for (const NamedTensor& p : parameters(dtype)) {
        there.push_back({p.name, p.tensor.detach().to(Device::cpu()).clone()});
        there.back().tensor.requires_grad_();
      }
      const auto a = k.make(here, {}), b = k.make(there, {});
      for (int step = 0; step < 10; ++step) {
        set_gradients(here, step);
        for (std::size_t i = 0; i < here.size(); ++i) {
          there[i].tensor.set_grad(here[i].tensor.grad().to(Device::cpu()));
        }
        a->step();
        b->step();
      }
      const double tolerance = dtype == DType::f64 ? 1e-12 : (dtype == DType::f32 ? 1e-5 : 0.005);
      const auto x = values(here), y = values(there);
      for (std::size_t i = 0; i < x.size(); ++i) {
        for (std::size_t e = 0; e < x[i].size(); ++e) EXPECT_NEAR(x[i][e], y[i][e], tolerance) << k.name;
      }
    }
  }
}

TEST_P(Optimizers, Errors) {
  Tensor p = ones({3, 3}), v = ones({3});
  p.requires_grad_();
  v.requires_grad_();
  EXPECT_THAT(message_of<ConfigError>([&] {
                Lion({{"p", p}}, {.betas = {0.9, 1.0}});
              }),
              HasSubstr("[Lion] the betas are 0.9 and 1, but must lie in [0, 1)"));
  EXPECT_THAT(message_of<ConfigError>([&] { Adam({{"p", p}}, {.lr = -1}); }), HasSubstr("[Adam] lr is -1"));
  EXPECT_THAT(message_of<ConfigError>([&] { SGD({{"p", p}}, {.momentum = -1}); }), HasSubstr("momentum is -1"));
  EXPECT_THAT(message_of<ConfigError>([&] {
                SGD({{"p", p}}, {.nesterov = true});
              }),
              HasSubstr("nesterov needs a momentum, which is 0"));
  EXPECT_THAT(message_of<ConfigError>([&] { Muon({{"p", p}}, {.momentum = 1}); }), HasSubstr("momentum is 1"));
  EXPECT_THAT(message_of<ConfigError>([&] { Muon({{"p", p}}, {.ns_steps = 0}); }), HasSubstr("steps is 0"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                Muon({{"gain", v}});
              }),
              HasSubstr("[Muon] the parameter 'gain' has shape [3], but Muon takes matrices only"));
  EXPECT_THAT(message_of<ShapeError>([&] { Muon(std::vector<Tensor>{p, v}); }), HasSubstr("the parameter '1'"));
  Tensor qkv = ones({8, 2});
  qkv.requires_grad_();
  EXPECT_THAT(message_of<ShapeError>([&] {
                Muon({{"a.qkv.weight", qkv}}, {.fused_qkv = FusedQkv::blocks});
              }),
              HasSubstr("'a.qkv.weight' has 8 rows, but its blocks have 6 together: set qkv_rows"));
  EXPECT_NO_THROW(Muon({{"a.qkv.weight", qkv}}, {.fused_qkv = FusedQkv::blocks, .qkv_rows = {4, 2, 2}}));
  EXPECT_THAT(message_of<AutogradError>([&] {
                SGD({{"frozen", ones({2})}});
              }),
              HasSubstr("[SGD] the parameter 'frozen' does not require grad"));
  EXPECT_THAT(message_of<ConfigError>([&] {
                Lion({{"p", p}}, {.state = {.master_weights = true, .stochastic_rounding = true}});
              }),
              HasSubstr("set master_weights = false"));
  SGD sgd({{"p", p}, {"v", v}});
  p.set_grad(ones({3, 3}));
  EXPECT_THAT(message_of<AutogradError>([&] { sgd.step({.require_grads = true}); }),
              HasSubstr("[SGD] the parameter 'v' has no gradient"));
  EXPECT_THAT(message_of<ConfigError>([&] { sgd.step({.clip_value = 0}); }), HasSubstr("clip_value is 0"));
  EXPECT_THAT(message_of<DtypeError>([&] { sgd.step({.inverse_scale = full({}, 1, {DType::f64})}); }),
              HasSubstr("inverse_scale is f64, but must be f32"));
  // A refused state changes nothing, options included.
  Adam adam({{"p", p}}, {.lr = 0.5});
  adam.step();
  const StateDict foreign = Lion({{"p", p}}, {.lr = 0.25}).state_dict();
  EXPECT_THAT(message_of<ConfigError>([&] { adam.load_state_dict(foreign); }), HasSubstr("nothing was loaded"));
  EXPECT_EQ(adam.lr(), 0.5);
}

TEST_P(Optimizers, MoreStateAppearsWithItsOption) {
  const auto list = parameters(DType::f32);
  SGD sgd(list, {.lr = 0.01});
  train(sgd, list, 0, 1);
  EXPECT_EQ(sgd.state_dict().find("state.w.momentum_buffer"), nullptr);
  sgd.options(0).momentum = 0.9;
  train(sgd, list, 1, 3);
  EXPECT_NE(sgd.state_dict().find("state.w.momentum_buffer"), nullptr);
  // The saved options say what there is.
  const auto other = parameters(DType::f32);
  SGD loaded(other, {.lr = 1});
  loaded.load_state_dict(sgd.state_dict());
  EXPECT_EQ(loaded.options(0).momentum, 0.9);
  EXPECT_NE(loaded.state_dict().find("state.w.momentum_buffer"), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Devices, Optimizers, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
