// A small GPT against PyTorch: logits, loss, every gradient, and ten steps of training.
#include "support/golden.h"

#include "support/compare.h"

#include <gtest/gtest.h>

#include <trinix/autograd/ops.h>
#include <trinix/layers/gpt.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>
#include <trinix/optim/decay.h>

namespace trinix::nn {
namespace {

struct GoldenCase {
  const char* file;
  bool bias;
  Gelu activation;
};

class GptGolden : public ::testing::TestWithParam<GoldenCase> {
 protected:
  GptGolden()
      : values(trinix::testing::golden(GetParam().file)),
        gpt({.vocab_size = 11,
             .block_size = 6,
             .layers = 2,
             .heads = 2,
             .width = 8,
             .bias = GetParam().bias,
             .activation = GetParam().activation,
             .tensor = {DType::f64}}) {
    gpt.load_state_dict(trinix::testing::below(values, "weight."));
  }

  Tensor loss() { return gpt.loss(values.at("ids"), values.at("targets")); }

  StateDict values;
  Gpt gpt;
};

using trinix::testing::largest_difference;

TEST_P(GptGolden, ForwardAndBackward) {
  EXPECT_LT(largest_difference(gpt.forward(values.at("ids")), values.at("logits")), 1e-12);
  const Tensor l = loss();
  EXPECT_NEAR(l.item<double>(), values.at("loss").item<double>(), 1e-13);
  l.backward();
  const StateDict gradients = trinix::testing::below(values, "grad.");
  EXPECT_EQ(gradients.size(), gpt.parameters().size());
  for (const auto& [name, p] : gpt.named_parameters()) {
    EXPECT_LT(largest_difference(p.grad(), gradients.at(name)), 1e-12) << name;
  }
}

TEST_P(GptGolden, TenStepsOfTraining) {
  optim::AdamW optimizer(optim::decay_groups(gpt, optim::AdamWOptions{.betas = {0.9, 0.99}, .weight_decay = 0.1}));
  const optim::CosineWithWarmup schedule({.lr = 1e-2, .min_lr = 1e-3, .warmup = 3, .steps = 8});
  const auto losses = values.at("losses").to_vector<double>(), norms = values.at("norms").to_vector<double>(),
             rates = values.at("rates").to_vector<double>();
  for (std::size_t step = 0; step < losses.size(); ++step) {
    SCOPED_TRACE(step);
    optimizer.set_lr(schedule.at(static_cast<std::int64_t>(step)));
    EXPECT_NEAR(optimizer.lr(), rates[step], 1e-15);
    optimizer.zero_grad();
    const Tensor l = loss();
    l.backward();
    EXPECT_NEAR(l.item<double>(), losses[step], 1e-9);
    const double norm = optim::grad_norm(optimizer.parameters());
    EXPECT_NEAR(norm, norms[step], 1e-8);
    optimizer.step({.grad_scale = optim::clip_scale(norm, 1.0)});
  }
}

INSTANTIATE_TEST_SUITE_P(PyTorch, GptGolden,
                         ::testing::Values(GoldenCase{"gpt_bias_tanh", true, Gelu::tanh},
                                           GoldenCase{"gpt_plain_erf", false, Gelu::erf}),
                         [](const auto& info) { return info.param.file; });

}  // namespace
}  // namespace trinix::nn
