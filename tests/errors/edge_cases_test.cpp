// Inputs that are not mistakes though they look like some: they have a defined result, and finite gradients.
#include "support/values.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

#include <trinix/trinix.h>

namespace trinix {
namespace {

using namespace trinix::testing;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool all_finite(const Tensor& t) {
  for (const double v : t.to_doubles()) {
    if (!std::isfinite(v)) return false;
  }
  return true;
}

TEST(EmptyBatch, PassesThroughALayerStack) {
  const nn::Linear linear({.in_features = 4, .out_features = 8});
  const nn::LayerNorm norm({.features = 8});
  const Tensor y = gelu(norm.forward(linear.forward(zeros({0, 4}))));
  EXPECT_EQ(y.shape(), (Shape{0, 8}));
  sum(y).backward();
  for (const auto& [name, parameter] : linear.named_parameters()) {
    ASSERT_TRUE(parameter.grad().defined()) << name;
    for (const float g : floats(parameter.grad())) EXPECT_EQ(g, 0) << name;
  }
}

TEST(EmptyBatch, Attention) {
  const Tensor q = zeros({0, 5, 2, 8}, {.requires_grad = true});
  const Tensor y = scaled_dot_product_attention(q, q, q, {.causal = true});
  EXPECT_EQ(y.shape(), q.shape());
  sum(y).backward();
  const Tensor none = zeros({2, 0, 2, 8});
  EXPECT_EQ(scaled_dot_product_attention(none, none, none).shape(), none.shape());
}

TEST(EmptyBatch, Matmul) {
  const Tensor a = zeros({3, 0}, {.requires_grad = true});
  const Tensor b = zeros({0, 4}, {.requires_grad = true});
  const Tensor c = matmul(a, b);  // a sum of nothing
  EXPECT_EQ(floats(c), Floats(12, 0.0f));
  sum(c).backward();
  EXPECT_EQ(a.grad().shape(), a.shape());
}

TEST(MaskedRows, AttentionWithoutAVisibleKey) {
  // With more queries than keys, causal rows at the top see nothing.
  const Tensor q = randn({1, 4, 2, 8}).requires_grad_();
  const Tensor k = randn({1, 2, 2, 8}).requires_grad_();
  const Tensor v = randn({1, 2, 2, 8}).requires_grad_();
  const Tensor y = scaled_dot_product_attention(q, k, v, {.causal = true});
  for (const float value : floats(y.slice(1, 0, 2))) EXPECT_EQ(value, 0);
  sum(y * y).backward();
  EXPECT_TRUE(all_finite(q.grad()) && all_finite(k.grad()) && all_finite(v.grad()));
  for (const float value : floats(q.grad().slice(1, 0, 2))) EXPECT_EQ(value, 0);
}

TEST(MaskedRows, SoftmaxOfNothingButMinusInfinity) {
  const Tensor x = leaf({-kInfinity, -kInfinity, 1, 2}, {2, 2});
  const Tensor y = softmax(x, -1);
  EXPECT_EQ(floats(y[0]), (Floats{0, 0}));
  sum(y * y).backward();
  EXPECT_EQ(floats(x.grad()[0]), (Floats{0, 0}));
  EXPECT_TRUE(all_finite(x.grad()));
}

TEST(HugeLogits, CrossEntropyStaysFinite) {
  const Tensor logits = leaf({1e30f, -1e30f, 0, -1e30f, 1e30f, 0}, {2, 3});
  const Tensor loss = cross_entropy(logits, from_vector<std::int64_t>({0, 1}));
  EXPECT_EQ(loss.item<float>(), 0);
  loss.backward();
  EXPECT_TRUE(all_finite(logits.grad()));
  EXPECT_EQ(cross_entropy(logits, from_vector<std::int64_t>({1, 1})).item<float>(), 1e30f);
}

TEST(IgnoredTargets, AllOfThem) {
  const Tensor logits = leaf({1, 2, 3, 4}, {2, 2});
  const Tensor loss = cross_entropy(logits, from_vector<std::int64_t>({-100, -100}));
  EXPECT_EQ(loss.item<float>(), 0);
  loss.backward();
  EXPECT_EQ(grad_of(logits), (Floats{0, 0, 0, 0}));
}

}  // namespace
}  // namespace trinix
