// Graphs of any depth run and go without recursion, and give their memory back.
#include "support/values.h"

#include <gtest/gtest.h>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>
#include <trinix/core/backend.h>
#include <trinix/core/error.h>

namespace trinix {
namespace {

using namespace trinix::testing;

constexpr int kDeep = 100'000;

Tensor deep_chain(const Tensor& x) {
  Tensor y = x;
  for (int i = 0; i < kDeep; ++i) y = y + 1;
  return y;
}

TEST(DeepGraph, Runs) {
  const Tensor x = leaf({3});
  const Tensor y = deep_chain(x);
  y.backward();
  EXPECT_EQ(grad_of(x), Floats{1});
}

TEST(DeepGraph, GoesWithoutHavingRun) {
  const Tensor x = leaf({3});
  { const Tensor y = deep_chain(x); }
  EXPECT_FALSE(x.grad().defined());
}

TEST(DeepGraph, OfSquaresWhichSaveTheirInputs) {
  const Tensor x = leaf({1});
  Tensor y = x;
  for (int i = 0; i < kDeep; ++i) y = y * y;
  y = Tensor();
  EXPECT_FALSE(x.grad().defined());
}

TEST(DeepGraph, InPlace) {
  const Tensor x = leaf({1});
  const Tensor y = x * 1;
  for (int i = 0; i < kDeep; ++i) add_(y, 1);
  y.backward();
  EXPECT_EQ(grad_of(x), Floats{1});
}

TEST(DeepGraph, OfViews) {
  const Tensor x = leaf({1, 2}, {1, 2});
  Tensor y = x;
  for (int i = 0; i < kDeep; ++i) y = y.transpose(0, 1);
  sum(y).backward();
  EXPECT_EQ(grad_of(x), (Floats{1, 1}));
}

std::int64_t allocated() { return memory_stats(Device::cpu()).allocated; }

TEST(GraphMemory, ReturnsToTheStartAfterBackward) {
  const Tensor x = ones({1000}, {.requires_grad = true});
  sum(x * x).backward();  // makes the gradient's buffer
  const std::int64_t start = allocated();
  for (int step = 0; step < 5; ++step) {
    Tensor y = x;
    for (int i = 0; i < 10; ++i) y = exp(y * 0.1) * x;
    sum(y).backward();
    x.zero_grad();
  }
  EXPECT_EQ(allocated(), start);
}

TEST(GraphMemory, SavedTensorsGoAsBackwardPasses) {
  const Tensor x = ones({1000}, {.requires_grad = true});
  sum(x * x).backward();
  const std::int64_t start = allocated();
  Tensor y = x;
  for (int i = 0; i < 20; ++i) y = exp(y * 0.1);
  const Tensor loss = sum(y);
  y = Tensor();
  EXPECT_GE(allocated(), start + 20 * 4000);  // one saved tensor each
  loss.backward();                            // loss itself still holds the graph, but nothing that was saved
  EXPECT_LE(allocated(), start + 1000);
}

TEST(GraphMemory, NothingIsKeptWithoutRecording) {
  const Tensor x = ones({1000}, {.requires_grad = true});
  const std::int64_t start = allocated();
  const NoGrad off;
  Tensor y = x;
  for (int i = 0; i < 20; ++i) y = exp(y * 0.1);
  EXPECT_LE(allocated(), start + 2 * 4096);
}

TEST(GraphMemory, ErrorDuringBackwardLeaksNothing) {
  const Tensor x = ones({1000}, {.requires_grad = true});
  sum(x * x).backward();
  const std::int64_t start = allocated();
  {
    const Tensor h = x * 2;
    const Tensor y = sum(exp(h * h));
    add_(h, 1);
    EXPECT_THROW(y.backward(), Error);
  }
  EXPECT_EQ(allocated(), start);
}

}  // namespace
}  // namespace trinix
