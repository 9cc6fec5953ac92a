#include "support/compare.h"
#include "support/errors.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/autograd/ops.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention.h>
#include <trinix/layers/dropout.h>
#include <trinix/layers/embedding.h>
#include <trinix/layers/linear.h>
#include <trinix/layers/norm.h>

namespace trinix::nn {
namespace {

using ::testing::HasSubstr;

using trinix::testing::message_of;

using trinix::testing::deviation;

TEST(Linear, StartsAsPyTorchsDoes) {
  Generator g(1);
  const Linear layer({.in_features = 400, .out_features = 300, .generator = &g});
  for (const Tensor& p : {layer.weight(), layer.bias()}) {
    EXPECT_LE(max(abs(p)).item<float>(), 1 / 20.0);
    EXPECT_NEAR(deviation(p), 1 / 20.0 / std::sqrt(3.0), 2e-3);
  }
  const Linear normal({.in_features = 400, .out_features = 300, .init_std = 0.02, .generator = &g});
  EXPECT_NEAR(deviation(normal.weight()), 0.02, 2e-4);
  EXPECT_EQ(max(abs(normal.bias())).item<float>(), 0);
}

TEST(Linear, TheGeneratorDecidesTheStart) {
  Generator a(3), b(3);
  const LinearOptions options{.in_features = 3, .out_features = 2};
  LinearOptions with_a = options, with_b = options;
  with_a.generator = &a;
  with_b.generator = &b;
  EXPECT_EQ(Linear(with_a).weight().to_doubles(), Linear(with_b).weight().to_doubles());
}

TEST(Linear, Errors) {
  EXPECT_THAT(message_of<ConfigError>([] { Linear({.in_features = 0, .out_features = 2}); }),
              HasSubstr("in_features 0 and out_features 2"));
  EXPECT_THAT(message_of<ShapeError>([] { Linear(zeros({2, 3}), zeros({3})); }), HasSubstr("[2, 3] and [3]"));
  const Linear layer({.in_features = 3, .out_features = 2});
  EXPECT_THROW((void)layer(zeros({4, 5})), ShapeError);
}

TEST(Embedding, LooksRowsUp) {
  const Embedding table({.num_embeddings = 5, .embedding_dim = 3});
  const Tensor rows = table(from_vector<std::int32_t>({4, 0, 4}));
  EXPECT_EQ(rows.shape(), (Shape{3, 3}));
  EXPECT_EQ(rows[0].to_doubles(), table.weight()[4].to_doubles());
  EXPECT_EQ(rows[1].to_doubles(), table.weight()[0].to_doubles());
  EXPECT_THROW((void)table(from_vector<std::int64_t>({5})), IndexError);
  EXPECT_THAT(message_of<ConfigError>([] { Embedding({.num_embeddings = 5}); }), HasSubstr("embedding_dim 0"));
}

TEST(Embedding, ThePaddingRowStaysAsItIs) {
  Generator g(2);
  const Embedding table({.num_embeddings = 4, .embedding_dim = 3, .padding_idx = 2, .generator = &g});
  EXPECT_EQ(max(abs(table.weight()[2])).item<float>(), 0);
  EXPECT_GT(max(abs(table.weight()[1])).item<float>(), 0);
  const Tensor indices = from_vector<std::int64_t>({2, 1, 2, 3}, {2, 2});
  sum(table(indices) * randn({2, 2, 3}, {}, &g)).backward();
  const Tensor grad = table.weight().grad();
  EXPECT_EQ(max(abs(grad[2])).item<float>(), 0);
  EXPECT_GT(max(abs(grad[1])).item<float>(), 0);
  // Another value, loaded from somewhere, is looked up as it is.
  table.weight().detach().select(0, 2).copy_(full({3}, 5.0));
  EXPECT_EQ(table(indices)[0][0].to_doubles(), (std::vector<double>{5, 5, 5}));
  EXPECT_THAT(message_of<ConfigError>([] { Embedding({.num_embeddings = 4, .embedding_dim = 3, .padding_idx = 4}); }),
              HasSubstr("padding_idx 4 is not one of the 4 rows"));
}

TEST(LayerNorm, StandardisesRows) {
  const LayerNorm norm({.features = 64});
  Generator g(2);
  const Tensor y = norm(randn({10, 64}, {}, &g) * 3.0 + 5.0);
  EXPECT_LT(max(abs(mean(y, {-1}))).item<float>(), 1e-5);
  EXPECT_LT(max(abs(var(y, {-1}, 0) - 1.0)).item<float>(), 1e-4);
  EXPECT_THAT(message_of<ConfigError>([] { LayerNorm({.features = 0}); }), HasSubstr("features 0"));
  EXPECT_THAT(message_of<ConfigError>([] { LayerNorm({.features = 4, .eps = 0}); }), HasSubstr("eps 0"));
}

TEST(LayerNorm, ResidualFormEqualsTheSteps) {
  const LayerNorm norm({.features = 33});
  Generator g(2);
  const Tensor x = randn({7, 33}, {}, &g), delta = randn({7, 33}, {}, &g);
  const auto [sum, normed] = norm.add_and_norm(x, delta);
  EXPECT_EQ(sum.to_doubles(), (x + delta).to_doubles());
  EXPECT_LT(max(abs(normed - norm(x + delta))).item<float>(), 1e-5);
  EXPECT_TRUE(norm.add_and_norm(x, {}).first.same(x));
}

TEST(Dropout, ActsInTrainingOnly) {
  Generator g(4);
  Dropout layer({.p = 0.25, .generator = &g});
  const Tensor x = ones({10000});
  const Tensor y = layer(x);
  const double kept = sum(y > 0).to(DType::f64).item<double>() / 10000;
  EXPECT_NEAR(kept, 0.75, 0.02);
  EXPECT_NEAR(max(y).item<float>(), 1 / 0.75, 1e-6);
  layer.eval();
  EXPECT_TRUE(layer(x).same(x));
  EXPECT_THAT(message_of<ConfigError>([] { Dropout({.p = 1.5}); }), HasSubstr("1.5 is not between 0 and 1"));
  EXPECT_THROW(Dropout({.p = std::nan("")}), ConfigError);
}

TEST(CausalSelfAttention, SeesOnlyThePast) {
  Generator g(6);
  const CausalSelfAttention layer({.embed_dim = 12, .num_heads = 3, .generator = &g});
  const Tensor x = randn({2, 9, 12}, {}, &g);
  const Tensor y = layer.forward(x);
  Tensor changed = x.clone();
  changed.narrow(1, 6, 3).copy_(randn({2, 3, 12}, {}, &g));
  const Tensor z = layer.forward(changed);
  EXPECT_EQ(max(abs(y - z).narrow(1, 0, 6)).item<float>(), 0);
  EXPECT_GT(max(abs(y - z).narrow(1, 6, 3)).item<float>(), 1e-3);
}

TEST(CausalSelfAttention, Errors) {
  EXPECT_THAT(message_of<ConfigError>([] { CausalSelfAttention({.embed_dim = 10, .num_heads = 3}); }),
              HasSubstr("3 heads do not divide an embed_dim of 10"));
  EXPECT_THROW(CausalSelfAttention({.embed_dim = 10}), ConfigError);
  const CausalSelfAttention layer({.embed_dim = 4, .num_heads = 2});
  EXPECT_THAT(message_of<ShapeError>([&] {
                (void)layer.forward(zeros({2, 3, 5}));
              }),
              HasSubstr("(batch, tokens, 4), got [2, 3, 5]"));
}

}  // namespace
}  // namespace trinix::nn
