// Graphs of separate threads, and one leaf that several of them add to.
#include "support/values.h"

#include <atomic>
#include <gtest/gtest.h>
#include <thread>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>

namespace trinix {
namespace {

using namespace trinix::testing;

/// Runs f(thread) on several threads at once.
template <class F>
void in_threads(int count, F f) {
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < count; ++t) {
    threads.emplace_back([&, t] {
      while (!go) std::this_thread::yield();
      f(t);
    });
  }
  go = true;
  for (std::thread& thread : threads) thread.join();
}

TEST(Threads, SeparateGraphs) {
  std::vector<Floats> results(4);
  in_threads(4, [&](int t) {
    const Tensor x = leaf({static_cast<float>(t + 1)});
    for (int i = 0; i < 200; ++i) (x * x).backward();
    results[static_cast<std::size_t>(t)] = grad_of(x);
  });
  for (std::size_t t = 0; t < results.size(); ++t) EXPECT_EQ(results[t], Floats{400.0f * static_cast<float>(t + 1)});
}

TEST(Threads, OneSharedLeaf) {
  const Tensor w = zeros({64}, {.requires_grad = true});
  in_threads(4, [&](int) {
    for (int i = 0; i < 250; ++i) sum(w * 1).backward();
  });
  EXPECT_EQ(grad_of(w), Floats(64, 1000.0f));
}

TEST(Threads, OneSharedWeightOfProducts) {
  // Products write to the leaf's buffer while they hold it, and go around it while another thread does.
  const Tensor w = zeros({8, 4}, {.requires_grad = true});
  const Tensor b = zeros({8}, {.requires_grad = true});
  const Tensor x = ones({16, 4});
  in_threads(4, [&](int) {
    for (int i = 0; i < 100; ++i) sum(linear(x, w, b)).backward();
  });
  EXPECT_EQ(grad_of(w), Floats(32, 16.0f * 400));
  EXPECT_EQ(grad_of(b), Floats(8, 16.0f * 400));
}

TEST(Threads, GraphMadeHereAndRunElsewhere) {
  const Tensor x = leaf({3});
  const Tensor y = x * x;
  std::thread([&] { y.backward(); }).join();
  EXPECT_EQ(grad_of(x), Floats{6});
}

}  // namespace
}  // namespace trinix
