#include "support/compare.h"
#include "support/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/layers/activation.h>
#include <trinix/layers/fuse.h>
#include <trinix/layers/linear.h>

namespace trinix::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using trinix::testing::message_of;

using trinix::testing::largest;

std::shared_ptr<RMSNorm> rms(std::int64_t features) {
  return std::make_shared<RMSNorm>(RMSNormOptions{.features = features});
}

std::shared_ptr<Linear> square(std::int64_t features, Generator* g) {
  return std::make_shared<Linear>(LinearOptions{.in_features = features, .out_features = features, .generator = g});
}

TEST(Fuse, FindsThePairsThatHaveAKernel) {
  Generator g(1);
  const Tensor x = randn({5, 12}, {}, &g);
  const auto norm = rms(12);
  const std::vector<std::pair<const char*, std::shared_ptr<Layer>>> activations = {
      {"mish", std::make_shared<Mish>()},         {"quick_gelu", std::make_shared<QuickGELU>()},
      {"relu2", std::make_shared<SquaredReLU>()}, {"gelu", std::make_shared<GELU>(Gelu::tanh)},
      {"silu", std::make_shared<SiLU>()},
  };
  for (const auto& [name, activation] : activations) {
    const FuseResult fused = fuse(norm, activation);
    EXPECT_THAT(fused.fused, ElementsAre("RMSNorm + activation (0-1)")) << name;
    EXPECT_LT(largest(fused(x) - activation->forward(norm->forward(x))), 1e-6) << name;
    EXPECT_TRUE(fused.layer->parameters().front().same(norm->weight())) << name;
    EXPECT_NE(last_kernel("rms_norm"), "reference");
  }
}

TEST(Fuse, TakesTheAdditionOfASkipConnectionIntoTheNorm) {
  Generator g(1);
  const Tensor x = randn({5, 12}, {}, &g);
  const auto skip = std::make_shared<SkipConnection>(square(12, &g), DropoutOptions{.p = 0.5, .generator = &g});
  const auto layer_norm = std::make_shared<LayerNorm>(LayerNormOptions{.features = 12});
  const FuseResult fused = fuse(skip, layer_norm);
  EXPECT_THAT(fused.fused, ElementsAre("SkipConnection + LayerNorm (0-1)"));
  for (const bool training : {true, false}) {
    fused.layer->train(training);
    g.manual_seed(4);
    const Tensor apart = layer_norm->forward(skip->forward(x));
    g.manual_seed(4);
    EXPECT_LT(largest(fused(x) - apart), 1e-5);
  }
  EXPECT_THAT(fuse(skip, rms(12)).fused, ElementsAre("SkipConnection + RMSNorm (0-1)"));
}

TEST(Fuse, FusesPartsOfAChainAndSaysWhich) {
  Generator g(1);
  const auto first = square(12, &g), last = square(12, &g);
  const auto norm = rms(12);
  const auto mish = std::make_shared<Mish>();
  const FuseResult result = fuse(first, norm, mish, last);
  EXPECT_THAT(result.fused, ElementsAre("RMSNorm + activation (1-2)"));
  EXPECT_EQ(std::dynamic_pointer_cast<Sequential>(result.layer)->size(), 3U);
  const Tensor x = randn({3, 12}, {}, &g);
  const Tensor apart = last->forward(mish->forward(norm->forward(first->forward(x))));
  EXPECT_LT(largest(result(x) - apart), 1e-5);
}

TEST(Fuse, WithoutAKernelItIsASequential) {
  Generator g(1);
  const FuseResult result = fuse(square(4, &g), std::make_shared<Mish>());
  EXPECT_THAT(result.fused, IsEmpty());
  EXPECT_FALSE(result.is_fused());
  EXPECT_NE(std::dynamic_pointer_cast<Sequential>(result.layer), nullptr);
}

/// Two linear maps as one.
TEST(Fuse, TakesPatternsOfTheUsers) {
  Generator g(1);
  Fuser fuser;
  fuser.add({"Linear + Linear", 2, [](Chain chain) -> std::shared_ptr<Layer> {
               const auto a = std::dynamic_pointer_cast<Linear>(chain[0]),
                          b = std::dynamic_pointer_cast<Linear>(chain[1]);
               if (a == nullptr || b == nullptr) return nullptr;
               const Tensor bias = linear(a->bias().unsqueeze(0), b->weight(), b->bias()).squeeze({0});
               return std::make_shared<Linear>(matmul(b->weight(), a->weight()).detach(), bias.detach());
             }});
  const std::vector<std::shared_ptr<Layer>> chain = {square(4, &g), square(4, &g), std::make_shared<Mish>()};
  const FuseResult result = fuser.fuse(chain);
  EXPECT_THAT(result.fused, ElementsAre("Linear + Linear (0-1)"));
  const Tensor x = randn({3, 4}, {}, &g);
  EXPECT_LT(largest(result(x) - chain[2]->forward(chain[1]->forward(chain[0]->forward(x)))), 1e-5);
}

TEST(Fuse, Errors) {
  EXPECT_THAT(message_of<ConfigError>([] { (void)Fuser().fuse({}); }), HasSubstr("no layers"));
  EXPECT_THAT(message_of<ConfigError>([] { (void)fuse(std::make_shared<Mish>(), std::shared_ptr<Mish>()); }),
              HasSubstr("layer 1 of 2 is null"));
  EXPECT_THAT(message_of<ConfigError>([] { Fuser().add({"x", 0, nullptr}); }), HasSubstr("length (now 0)"));
}

}  // namespace
}  // namespace trinix::nn
