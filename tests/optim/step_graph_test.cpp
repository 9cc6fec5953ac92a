// A whole training step, captured and replayed: the same numbers as eager steps, and no surprises around it.
#include "support/on_device.h"

#include <gmock/gmock.h>
#include <string>

#include <trinix/core/error.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>
#include <trinix/optim/decay.h>

namespace trinix::optim {
namespace {

using ::testing::HasSubstr;

/// Bitwise equality is promised in deterministic mode.
class StepGraphs : public trinix::testing::OnDevice {
 protected:
  void SetUp() override { set_deterministic(true); }
  void TearDown() override {
    set_deterministic(false);
    set_log_handler(
        [](std::string_view text) { std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data()); });
  }
  template <class E, class F>
  static std::string error_of(F&& f) {
    try {
      f();
    } catch (const E& e) {
      return e.what();
    }
    return "nothing of that type was thrown";
  }
};

/// A small network with dropout, its optimizer, and one step of training on `accumulate` parts of a batch.
struct Trainee {
  Trainee(Device device, DType dtype, std::int64_t accumulate = 1) : parts(accumulate) {
    Generator start(3);
    const auto make = [&](const Shape& shape) {
      Tensor p = (trinix::rand(shape, {}, &start) - 0.5).to(dtype).to(device);
      parameters.push_back(p.requires_grad_());
      return p;
    };
    w1 = make({24, 16});
    b1 = make({24});
    w2 = make({8, 24});
    optimizer = std::make_unique<AdamW>(parameters, AdamWOptions{.lr = 0.01});
  }

  Tensor loss(const Tensor& x, const Tensor& y) {
    const Tensor hidden = dropout(linear(x, w1, b1), 0.3, &generator);
    const Tensor error = linear(hidden, w2, Tensor()) - y;
    return mean(error * error);
  }

  std::vector<Tensor> step(const std::vector<Tensor>& in) {
    optimizer->zero_grad();
    Tensor total;
    const std::int64_t rows = in[0].size(0) / parts;
    for (std::int64_t i = 0; i < parts; ++i) {
      const Tensor part = loss(in[0].narrow(0, i * rows, rows), in[1].narrow(0, i * rows, rows));
      part.backward();
      total = total.defined() ? total + part.detach() : part.detach();
    }
    const Tensor norm = grad_norm_tensor(parameters);
    optimizer->step({.norm = norm, .max_norm = 0.5});
    return {total, norm};
  }

  std::int64_t parts;
  Generator generator{11};
  std::vector<Tensor> parameters;
  Tensor w1, b1, w2;
  std::unique_ptr<AdamW> optimizer;
};

/// The batch of step i.
std::vector<Tensor> batch(std::int64_t i, DType dtype, std::int64_t rows = 12) {
  Generator generator(100 + static_cast<std::uint64_t>(i));
  return {trinix::rand({rows, 16}, {}, &generator).to(dtype), trinix::rand({rows, 8}, {}, &generator).to(dtype)};
}

void expect_equal(const Trainee& a, const Trainee& b, const std::string& when) {
  for (std::size_t k = 0; k < a.parameters.size(); ++k) {
    EXPECT_EQ(a.parameters[k].to_doubles(), b.parameters[k].to_doubles()) << "parameter " << k << " " << when;
  }
  const StateDict x = a.optimizer->state_dict(), y = b.optimizer->state_dict();
  for (const auto& [key, value] : x) EXPECT_EQ(value.to_doubles(), y.at(key).to_doubles()) << key << " " << when;
  EXPECT_EQ(a.generator.state().offset, b.generator.state().offset) << when;
}

TEST_P(StepGraphs, TenStepsAreThoseOfEagerModeBitForBit) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t parts : {1, 3}) {
      Trainee eager(device(), dtype, parts), captured(device(), dtype, parts);
      StepGraph graph(device(), [&](const std::vector<Tensor>& in) { return captured.step(in); });
      const CosineWithWarmup schedule({.lr = 0.02, .min_lr = 0.001, .warmup = 3, .steps = 10});
      for (std::int64_t i = 0; i < 10; ++i) {
        std::vector<Tensor> here = batch(i, dtype);
        const auto& out = [&]() -> const std::vector<Tensor>& {
          captured.optimizer->set_lr(schedule.at(i));
          return graph(here);  // from the host
        }();
        for (Tensor& t : here) t = t.to(device());
        eager.optimizer->set_lr(schedule.at(i));
        const auto expected = eager.step(here);
        EXPECT_EQ(out[0].to_doubles(), expected[0].to_doubles()) << "loss of step " << i;
        EXPECT_EQ(out[1].to_doubles(), expected[1].to_doubles()) << "norm of step " << i;
        EXPECT_EQ(graph.is_captured(), !device().is_cpu() && i >= 2);
        expect_equal(captured, eager, "after step " + std::to_string(i));
      }
    }
  }
}

TEST_P(StepGraphs, EagerWorkBetweenStepsChangesNothing) {
  Trainee eager(device(), DType::f32), captured(device(), DType::f32);
  StepGraph graph(device(), [&](const std::vector<Tensor>& in) { return captured.step(in); });
  for (std::int64_t i = 0; i < 8; ++i) {
    static_cast<void>(graph(batch(i, DType::f32)));
    const auto same = batch(i, DType::f32);
    static_cast<void>(eager.step({same[0].to(device()), same[1].to(device())}));
    for (Trainee* t : {&captured, &eager}) {
      // An evaluation: memory is taken and given back, random numbers are drawn, gradients appear and are cleared.
      const Tensor x = ones({64, 16}), y = zeros({64, 8});
      const Tensor loss = t->loss(x, y);
      loss.backward();
      EXPECT_GT(loss.item<float>(), 0);
      if (i == 5) {
        const NoGrad no_grad;
        t->w1.copy_(t->w1 * 0.5);
      }
    }
    expect_equal(captured, eager, "after step " + std::to_string(i));
  }
}

TEST_P(StepGraphs, AnotherShapeIsCapturedAnew) {
  std::vector<std::string> remarks;
  set_log_handler([&](std::string_view text) { remarks.emplace_back(text); });
  Trainee eager(device(), DType::f32), captured(device(), DType::f32);
  StepGraph graph(device(), [&](const std::vector<Tensor>& in) { return captured.step(in); }, {.warmup = 1});
  for (std::int64_t i = 0; i < 9; ++i) {
    const auto inputs = batch(i, DType::f32, i < 4 ? 12 : 20);
    static_cast<void>(graph(inputs));
    static_cast<void>(eager.step({inputs[0].to(device()), inputs[1].to(device())}));
    expect_equal(captured, eager, "after step " + std::to_string(i));
  }
  if (device().is_cpu()) {
    EXPECT_TRUE(remarks.empty());
    return;
  }
  EXPECT_TRUE(graph.is_captured());
  ASSERT_EQ(remarks.size(), 1U);
  EXPECT_EQ(remarks[0],
            "StepGraph: input 0 was f32 of shape [12, 16] and is now f32 of shape [20, 16]; the step is captured anew");
}

TEST_P(StepGraphs, LoadedStateAndAnotherSeedAreNoticed) {
  set_log_handler({});
  Trainee eager(device(), DType::bf16), captured(device(), DType::bf16);
  StepGraph graph(device(), [&](const std::vector<Tensor>& in) { return captured.step(in); }, {.warmup = 1});
  StateDict state;
  for (std::int64_t i = 0; i < 12; ++i) {
    const auto inputs = batch(i, DType::bf16);
    static_cast<void>(graph(inputs));
    static_cast<void>(eager.step({inputs[0].to(device()), inputs[1].to(device())}));
    if (i == 2) state = eager.optimizer->state_dict().clone();
    for (Trainee* t : {&captured, &eager}) {
      if (i == 4) t->optimizer->load_state_dict(state);
      if (i == 7) t->generator.manual_seed(99);
    }
    expect_equal(captured, eager, "after step " + std::to_string(i));
  }
}

TEST_P(StepGraphs, WhatIsNotFiniteIsSkippedAndCounted) {
  Trainee t(device(), DType::f32);
  StepGraph graph(device(), [&](const std::vector<Tensor>& in) { return t.step(in); });
  for (std::int64_t i = 0; i < 5; ++i) static_cast<void>(graph(batch(i, DType::f32)));
  const auto before = t.w1.to_doubles();
  auto bad = batch(5, DType::f32);
  bad[1] = trinix::full({12, 8}, INFINITY);
  static_cast<void>(graph(bad));
  EXPECT_EQ(t.w1.to_doubles(), before);
  EXPECT_EQ(t.optimizer->skipped().item<std::int64_t>(), 1);
  static_cast<void>(graph(batch(6, DType::f32)));
  EXPECT_NE(t.w1.to_doubles(), before);
}

TEST_P(StepGraphs, WhatCannotBeCapturedIsRefusedByName) {
  if (device().is_cpu()) GTEST_SKIP() << "the CPU captures nothing: the function is simply called";
  Trainee t(device(), DType::f32);
  const auto refusal = [&](auto extra) {
    StepGraph graph(device(),
                    [&](const std::vector<Tensor>& in) {
                      auto out = t.step(in);
                      extra(out[0]);
                      return out;
                    },
                    {.warmup = 1});
    const auto inputs = batch(0, DType::f32);
    static_cast<void>(graph(inputs));
    const auto offset = t.generator.state().offset;
    const auto before = t.w1.to_doubles();
    const std::string text = error_of<CaptureError>([&] { static_cast<void>(graph(inputs)); });
    EXPECT_EQ(t.generator.state().offset, offset);
    EXPECT_EQ(t.w1.to_doubles(), before);
    // Eager work goes on as if nothing had happened.
    EXPECT_GT(t.step({inputs[0].to(device()), inputs[1].to(device())})[0].template item<float>(), 0);
    return text;
  };
  EXPECT_THAT(refusal([](const Tensor& loss) { static_cast<void>(loss.item<float>()); }),
              HasSubstr("[item] 'item' waits"));
  EXPECT_THAT(refusal([](const Tensor& loss) { static_cast<void>(loss.to(Device::cpu())); }), HasSubstr("[to]"));
  EXPECT_THAT(refusal([](const Tensor& loss) { static_cast<void>(loss.to_vector<float>()); }),
              HasSubstr("[to_vector]"));
  EXPECT_THAT(refusal([](const Tensor&) {
                static_cast<void>(trinix::from_vector<float>({1}, {DType::f32, device()}));
              }),
              HasSubstr("[from_span]"));
  EXPECT_THAT(refusal([](const Tensor&) { synchronize(device()); }), HasSubstr("[synchronize]"));
  EXPECT_THAT(refusal([&](const Tensor&) { t.optimizer->set_lr(1); }), HasSubstr("[set_lr]"));
  EXPECT_THAT(refusal([&](const Tensor&) { t.generator.manual_seed(1); }), HasSubstr("[manual_seed]"));
  int calls = 0;
  EXPECT_THAT(refusal([&](const Tensor&) {
                if (Capture::current() == nullptr) return;
                Tensor late = ones({3}, {.requires_grad = true});
                (late * 2.0).backward(ones({3}));
                ++calls;
              }),
              HasSubstr("call zero_grad() within the step"));
  EXPECT_EQ(calls, 0);
}

TEST_P(StepGraphs, TwoGraphsAndTheirMemoryComeAndGo) {
  Trainee a(device(), DType::f32), b(device(), DType::f32), eager(device(), DType::f32);
  synchronize(device());
  const std::int64_t before = memory_stats(device()).allocated;
  {
    StepGraph first(device(), [&](const std::vector<Tensor>& in) { return a.step(in); });
    auto second = std::make_unique<StepGraph>(device(), [&](const std::vector<Tensor>& in) { return b.step(in); });
    Tensor kept;
    for (std::int64_t i = 0; i < 10; ++i) {
      const auto inputs = batch(i, DType::f32);
      static_cast<void>(first(inputs));
      if (i < 6) kept = (*second)(inputs)[0];
      if (i == 6) second.reset();  // its last result outlives it
      static_cast<void>(eager.step({inputs[0].to(device()), inputs[1].to(device())}));
      expect_equal(a, eager, "after step " + std::to_string(i));
    }
    EXPECT_GT(kept.item<float>(), 0);
  }
  for (Trainee* t : {&a, &b, &eager}) {
    t->optimizer.reset();
    for (const Tensor& p : t->parameters) p.set_grad({});
  }
  if (device().is_cpu()) return;  // its scratch memory stays with the threads
  // What is left are the tables of the last lists of tensors and the workspace of matrix products.
  EXPECT_LT(memory_stats(device()).allocated - before, std::int64_t{65} << 20);
}

TEST_P(StepGraphs, NeedAnEagerStepFirst) {
  EXPECT_THAT(error_of<ConfigError>(
                  [] { StepGraph(device(), [](const std::vector<Tensor>& in) { return in; }, {.warmup = 0}); }),
              HasSubstr("warmup is 0"));
}

INSTANTIATE_TEST_SUITE_P(Devices, StepGraphs, ::testing::ValuesIn(trinix::testing::test_devices()),
                         trinix::testing::device_name);

TEST(StepGraphsOnCuda, AreTestedWhereThereIsACard) {
  if (!is_available(Device::cuda())) GTEST_SKIP() << "no CUDA card here: StepGraph was tested on the CPU only";
}

}  // namespace
}  // namespace trinix::optim
