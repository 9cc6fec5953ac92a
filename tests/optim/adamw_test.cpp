#include "support/errors.h"
#include "support/on_device.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/core/error.h>
#include <trinix/core/threads.h>
#include <trinix/optim/adamw.h>

namespace trinix::optim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using trinix::testing::message_of;

/// `count` values that look random, in [-1, 1).
std::vector<double> noise(std::int64_t count, int seed) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < count; ++i) {
    const double x = std::sin(static_cast<double>(i) * 12.9898 + seed * 78.233) * 43758.5453;
    values.push_back((x - std::floor(x)) * 2 - 1);
  }
  return values;
}

class AdamWOnDevice : public trinix::testing::OnDevice {
 protected:
  static Tensor tensor(const Shape& shape, int seed, DType dtype) {
    return from_vector(noise(numel(shape), seed), shape).to(dtype);
  }

  static Tensor parameter(const Shape& shape, int seed, DType dtype = DType::f32) {
    Tensor p = tensor(shape, seed, dtype).detach();
    return p.requires_grad_();
  }
};

/// The update as the paper writes it, in f64.
struct Model {
  std::vector<double> p, m, v;
  int step = 0;

  explicit Model(const Tensor& start) : p(start.to_doubles()), m(p.size()), v(p.size()) {}

  void update(const std::vector<double>& g, const AdamWOptions& o, double scale = 1) {
    ++step;
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double grad = (o.maximize ? -1 : 1) * scale * g[i];
      m[i] = o.betas[0] * m[i] + (1 - o.betas[0]) * grad;
      v[i] = o.betas[1] * v[i] + (1 - o.betas[1]) * grad * grad;
      const double mean = m[i] / (1 - std::pow(o.betas[0], step));
      const double square = v[i] / (1 - std::pow(o.betas[1], step));
      p[i] = p[i] * (1 - o.lr * o.weight_decay) - o.lr * mean / (std::sqrt(square) + o.eps);
    }
  }
};

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST_P(AdamWOnDevice, FollowsTheFormulaInEveryDtype) {
  for (const auto& [dtype, tolerance] :
       {std::pair{DType::f64, 1e-13}, {DType::f32, 3e-6}, {DType::bf16, 3e-2}, {DType::f16, 4e-3}}) {
    for (const bool maximize : {false, true}) {
      const AdamWOptions options{
          .lr = 0.01, .betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.2, .maximize = maximize};
      const Tensor p = parameter({37, 3}, 1, dtype);
      Model model(p);
      AdamW optimizer({{"p", p}}, options);
      for (int step = 0; step < 10; ++step) {
        const Tensor g = tensor({37, 3}, 2 + step, dtype);
        p.set_grad(g);
        optimizer.step({.grad_scale = 0.5});
        model.update(g.to_doubles(), options, 0.5);
      }
      EXPECT_LT(largest_difference(p.to_doubles(), model.p), tolerance) << name(dtype);
      EXPECT_EQ(optimizer.state_dict().at("state.p.exp_avg").dtype(), compute_type(dtype));
    }
  }
}

TEST(AdamW, DefaultsAreThoseOfPyTorch) {
  const AdamWOptions o;
  EXPECT_EQ(o.lr, 1e-3);
  EXPECT_EQ(o.betas[0], 0.9);
  EXPECT_EQ(o.betas[1], 0.999);
  EXPECT_EQ(o.eps, 1e-8);
  EXPECT_EQ(o.weight_decay, 1e-2);
}

TEST_P(AdamWOnDevice, GroupsKeepTheirOwnOptions) {
  const Tensor a = parameter({5, 2}, 1, DType::f64), b = parameter({7}, 2, DType::f64);
  const AdamWOptions first{.lr = 0.1, .weight_decay = 0.5}, second{.lr = 0.02, .betas = {0.5, 0.6}, .weight_decay = 0};
  Model model_a(a), model_b(b);
  AdamW optimizer({{"a", a}}, first);
  optimizer.add_param_group({{{"b", b}}, second});
  for (int step = 0; step < 4; ++step) {
    const Tensor ga = tensor({5, 2}, 10 + step, DType::f64), gb = tensor({7}, 20 + step, DType::f64);
    a.set_grad(ga);
    b.set_grad(gb);
    optimizer.step();
    model_a.update(ga.to_doubles(), first);
    model_b.update(gb.to_doubles(), second);
  }
  EXPECT_LT(largest_difference(a.to_doubles(), model_a.p), 1e-13);
  EXPECT_LT(largest_difference(b.to_doubles(), model_b.p), 1e-13);
  optimizer.set_lr(0.25);
  EXPECT_EQ(optimizer.options(0).lr, 0.25);
  EXPECT_EQ(optimizer.options(1).lr, 0.25);
  EXPECT_EQ(optimizer.options(1).betas[0], 0.5);
}

TEST_P(AdamWOnDevice, SharesManyTensorsOfAllSizesOutEvenly) {
  // Lengths around the size of a piece, empty ones, and enough elements for several threads.
  const std::vector<std::int64_t> sizes = {0, 1, 16384, 3, 16385, 0, 100000, 16383, 7, 40000, 0};
  for (const int threads : {1, 2, 3, 5}) {
    set_num_threads(threads);
    std::vector<Tensor> parameters;
    std::vector<Model> models;
    int seed = 0;
    for (const std::int64_t n : sizes) {
      parameters.push_back(parameter({n}, ++seed, DType::f64));
      models.emplace_back(parameters.back());
    }
    const AdamWOptions options{.lr = 0.05};
    AdamW optimizer(parameters, options);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const Tensor g = tensor({sizes[i]}, ++seed, DType::f64);
      parameters[i].set_grad(g);
      models[i].update(g.to_doubles(), options);
    }
    optimizer.step();
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      EXPECT_LT(largest_difference(parameters[i].to_doubles(), models[i].p), 1e-13) << "tensor " << i;
    }
  }
  set_num_threads(0);
}

TEST_P(AdamWOnDevice, PassesOverAndNamesParametersWithoutGradient) {
  const Tensor a = parameter({3}, 1), b = parameter({3}, 2);
  const auto before = b.to_doubles();
  AdamW optimizer({{"a", a}, {"b", b}}, {.lr = 0.1});
  a.set_grad(ones({3}));
  EXPECT_THAT(optimizer.without_grad(), ElementsAre("b"));
  optimizer.step();
  EXPECT_EQ(b.to_doubles(), before);
  // Its bias correction starts with its own first step.
  b.set_grad(ones({3}));
  const auto old = b.to_doubles();
  optimizer.options(0).weight_decay = 0;
  optimizer.step();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(b.to_doubles()[i], old[i] - 0.1, 1e-6);
}

TEST_P(AdamWOnDevice, StridedGradientsAndConvertedParameters) {
  const Tensor p = parameter({4, 6}, 1);
  Model model(p);
  const AdamWOptions options{.lr = 0.05};
  AdamW optimizer({{"p", p}}, options);
  const Tensor strided = tensor({6, 4}, 2, DType::f32).transpose(0, 1);
  p.set_grad(strided);
  optimizer.step();
  model.update(strided.to_doubles(), options);
  p.set_data(p.detach().to(DType::f64));
  const Tensor wide = tensor({4, 6}, 3, DType::f64);
  p.set_grad(wide);
  optimizer.step();
  model.update(wide.to_doubles(), options);
  EXPECT_LT(largest_difference(p.to_doubles(), model.p), 1e-6);
  EXPECT_EQ(optimizer.state_dict().at("state.p.exp_avg").dtype(), DType::f64);
}

TEST_P(AdamWOnDevice, AStepInvalidatesWhatAGraphSaved) {
  const Tensor p = parameter({3}, 1);
  const Tensor loss = p * p;
  AdamW optimizer({{"p", p}});
  p.set_grad(ones({3}));
  optimizer.step();
  EXPECT_THAT(message_of<AutogradError>([&] { loss.backward(ones({3})); }), HasSubstr("AdamW"));
}

TEST_P(AdamWOnDevice, ResumesBitForBit) {
  const auto gradient = [](int step, int which) { return tensor({9, 2}, 100 + 10 * step + which, DType::f32); };
  const AdamWOptions options{.lr = 0.03, .weight_decay = 0.1};
  const auto train = [&](AdamW& optimizer, const Tensor& a, const Tensor& b, int from, int to) {
    for (int step = from; step < to; ++step) {
      a.set_grad(gradient(step, 0));
      if (step > 1) b.set_grad(gradient(step, 1));
      optimizer.set_lr(0.03 / (1 + step));
      optimizer.step();
    }
  };
  const Tensor a = parameter({9, 2}, 1), b = parameter({9, 2}, 2);
  AdamW whole({{"a", a}, {"b", b}}, options);
  train(whole, a, b, 0, 10);

  const Tensor c = parameter({9, 2}, 1), d = parameter({9, 2}, 2);
  AdamW first({{"a", c}, {"b", d}}, options);
  train(first, c, d, 0, 5);
  const StateDict saved = first.state_dict().clone();
  train(first, c, d, 5, 6);  // the saved state must not follow

  Tensor e = parameter({9, 2}, 1), f = parameter({9, 2}, 2);
  AdamW again({{"a", e}, {"b", f}}, options);
  train(again, e, f, 0, 5);
  AdamW second({{"a", e}, {"b", f}});
  second.load_state_dict(saved);
  EXPECT_EQ(second.options(0).weight_decay, 0.1);
  EXPECT_EQ(second.lr(), 0.03 / 5);
  train(second, e, f, 5, 10);
  EXPECT_EQ(a.to_doubles(), e.to_doubles());
  EXPECT_EQ(b.to_doubles(), f.to_doubles());
}

TEST_P(AdamWOnDevice, RefusesTheStateOfAnotherModel) {
  const Tensor a = parameter({3, 2}, 1), b = parameter({4}, 2);
  AdamW optimizer({{"a", a}, {"b", b}});
  a.set_grad(ones({3, 2}));
  b.set_grad(ones({4}));
  optimizer.step();
  const auto before = optimizer.state_dict().clone();
  const Tensor c = parameter({2, 3}, 1), d = parameter({4}, 2);
  AdamW other({{"a", c}, {"d", d}});
  c.set_grad(ones({2, 3}));
  d.set_grad(ones({4}));
  other.step();
  const std::string text = message_of<ConfigError>([&] { optimizer.load_state_dict(other.state_dict()); });
  EXPECT_EQ(text,
            "[AdamW] the state belongs to another optimizer or model, and nothing was loaded:\n"
            "  missing: state.b.step\n"
            "  unexpected: state.d.step, state.d.exp_avg, state.d.exp_avg_sq\n"
            "  mismatched: state.a.exp_avg is [3, 2] floating point in the optimizer and [2, 3] f32 in the state, "
            "state.a.exp_avg_sq is [3, 2] floating point in the optimizer and [2, 3] f32 in the state");
  for (const auto& [name, tensor] : optimizer.state_dict()) {
    EXPECT_EQ(tensor.to_doubles(), before.at(name).to_doubles()) << name;
  }
  other.add_param_group({{{"e", parameter({1}, 3)}}});
  EXPECT_NO_THROW(other.load_state_dict(other.state_dict()));
}

TEST_P(AdamWOnDevice, Errors) {
  const Tensor p = parameter({3}, 1);
  const auto refused = [&](const AdamWOptions& options) {
    return message_of<ConfigError>([&] { AdamW({{"p", p}}, options); });
  };
  EXPECT_THAT(refused({.lr = -1}), HasSubstr("lr is -1"));
  EXPECT_THAT(refused({.lr = std::nan("")}), HasSubstr("lr is nan"));
  EXPECT_THAT(refused({.betas = {1.0, 0.9}}), HasSubstr("betas are 1 and 0.9"));
  EXPECT_THAT(refused({.betas = {0.9, -0.1}}), HasSubstr("[0, 1)"));
  EXPECT_THAT(refused({.eps = -1e-8}), HasSubstr("eps is"));
  EXPECT_THAT(refused({.weight_decay = -1}), HasSubstr("weight_decay is -1"));
  AdamW optimizer({{"p", p}});
  EXPECT_THAT(message_of<ConfigError>([&] { optimizer.set_lr(-0.5); }), HasSubstr("lr is -0.5"));
  EXPECT_EQ(optimizer.lr(), 1e-3);
  p.set_grad(ones({3}));
  optimizer.options(0).betas[1] = 1;
  EXPECT_THAT(message_of<ConfigError>([&] { optimizer.step(); }), HasSubstr("betas are 0.9 and 1"));
  EXPECT_THAT(optimizer.state_dict().at("state.p.step").item<std::int64_t>(), 0);
  EXPECT_THAT(message_of<ConfigError>([&] {
                optimizer.add_param_group({{{"q", p}}});
              }),
              HasSubstr("the parameter 'q' is given twice: it is 'p' of group 0 too"));
  EXPECT_EQ(optimizer.group_count(), 1U);
  EXPECT_THAT(message_of<ConfigError>([&] {
                optimizer.add_param_group({{{"p", parameter({2}, 1)}}});
              }),
              HasSubstr("two parameters have the name 'p'"));
  EXPECT_THAT(message_of<ConfigError>([&] { AdamW(std::vector<Tensor>{}); }), HasSubstr("no parameters"));
  EXPECT_THAT(message_of<ConfigError>([&] { AdamW({{"u", Tensor()}}); }), HasSubstr("'u' is undefined"));
  EXPECT_THROW(AdamW({{"i", zeros({2}, {DType::i64})}}), DtypeError);
  EXPECT_THROW(AdamW({{"n", p * p}}), AutogradError);
}

TEST_P(AdamWOnDevice, DecayGroupsByTheNumberOfDims) {
  const std::vector<NamedTensor> parameters = {
      {"w", parameter({2, 2}, 1)}, {"b", parameter({2}, 2)}, {"e", parameter({2, 1, 2}, 3)}};
  const auto groups = decay_groups(parameters, AdamWOptions{.lr = 0.5, .weight_decay = 0.3});
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_EQ(groups[0].parameters.size(), 2U);
  EXPECT_EQ(groups[0].options.weight_decay, 0.3);
  EXPECT_EQ(groups[1].parameters[0].name, "b");
  EXPECT_EQ(groups[1].options.weight_decay, 0);
  EXPECT_EQ(groups[1].options.lr, 0.5);
  EXPECT_EQ(decay_groups(std::vector<NamedTensor>{parameters[1]}, AdamWOptions{}).size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(Devices, AdamWOnDevice, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

}  // namespace
}  // namespace trinix::optim
